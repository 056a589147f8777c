"""Importing assets: a text of CSV, or an inventory of Ansible."""

from __future__ import annotations

from typing import Literal

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from pydantic import BaseModel, ConfigDict, Field
from rest_framework.request import Request

from executions import services
from executions.api.answers import answer
from executions.api.assets import InventoryView
from executions.api.base import caller
from executions.api.problems import invalid_parameter
from executions.api.reading import Query, body_bytes, read_body
from executions.api.schema import call, parameter
from executions.inventory_formats import FORMATS
from executions.inventory_import import ImportResult
from safety.scopes import Scope

# A file as it is; the query says the rest.
FILES = frozenset({"text/csv", "text/plain", "application/octet-stream"})


class ImportBody(BaseModel):
    """Assets as one text."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["csv", "ansible-ini", "ansible-yaml", "ansible-json"]
    content: str = Field(description="The file, whole.")
    dry_run: bool = Field(False, description="Say what would change, and change nothing.")
    update: bool = Field(False, description="Also change assets that exist and differ; else they are a problem.")


class ChangedAsset(BaseModel):
    """An asset that was, or would be, changed, with the fields in which it differs."""

    name: str
    fields: list[str]


class ImportAnswer(BaseModel):
    """What became of the assets. `remarks` say what of the file means nothing here and was left out."""

    dry_run: bool
    created: list[str]
    updated: list[ChangedAsset]
    unchanged: list[str]
    groups_created: list[str]
    remarks: list[str]


class AssetImportView(InventoryView):
    """Imports of assets."""

    @call(
        "assets_import",
        "Import assets",
        scope=Scope.OPERATE,
        tag="inventory",
        description="CSV, or an inventory of Ansible. All of it or nothing; a refusal names every problem by its line."
        " Instead of the object the file itself can be sent, as text/csv or text/plain, with the rest in the query.",
        takes=ImportBody,
        gives=ImportAnswer,
        refuses=("forbidden", "import_refused", "invalid_parameter"),
        parameters=(
            parameter("format", "With a file: its format.", enum=tuple(FORMATS)),
            parameter("dry_run", "With a file: say what would change, and change nothing.", OpenApiTypes.BOOL),
            parameter("update", "With a file: also change assets that exist and differ.", OpenApiTypes.BOOL),
        ),
        example={"format": "ansible-ini", "content": "[web]\nweb[01:03].example.org\n", "dry_run": True},
    )
    def post(self, request: Request) -> HttpResponse:
        kind = request.META.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
        if kind in FILES:
            query = Query(request, ("format", "dry_run", "update"))
            formats = query.choices("format", FORMATS)
            if len(formats) != 1:
                raise invalid_parameter("format", "is needed with a file.", f"Give one of: {', '.join(FORMATS)}.")
            content, format_name = body_bytes(request), formats[0]
            dry_run, update = bool(query.flag("dry_run")), bool(query.flag("update"))
        else:
            Query(request, ())
            body = ImportBody.model_validate(read_body(request))
            content, format_name = body.content.encode("utf-8", "surrogatepass"), body.format
            dry_run, update = body.dry_run, body.update
        done = services.import_inventory(content, format_name, by=caller(request), update=update, dry_run=dry_run)
        return answer(import_shape(done, dry_run=dry_run))


def import_shape(done: ImportResult, *, dry_run: bool) -> dict[str, object]:
    """The result of an import as it is answered."""
    return {
        "dry_run": dry_run,
        "created": done.created,
        "updated": [{"name": name, "fields": done.changes.get(name, [])} for name in done.updated],
        "unchanged": done.unchanged,
        "groups_created": done.groups_created,
        "remarks": done.remarks,
    }
