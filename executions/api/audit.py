"""The audit: who did, or was refused, what; and all of it as a file that can be verified elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from channels.db import database_sync_to_async
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from rest_framework.request import Request

from executions.api import cursors
from executions.api.base import ApiView, Operates, caller
from executions.api.reading import Query
from executions.api.schema import PAGING, call, parameter
from executions.api.shapes import Page, Shape
from safety import audit
from safety.audit.exporting import FORMATS, Part, header, lines_of, pages_of, parts_of
from safety.audit.reading import chains_for, records_for
from safety.models import AuditRecord
from safety.origin import Door
from safety.scopes import Scope

MEDIA_TYPES = {"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}
_PERIOD = (
    parameter("from", "At or after this time."),
    parameter("to", "Before this time."),
)


class AuditShape(Shape):
    """One record. `number` and `hash` are its seal: null for the moment until it has one."""

    id: int
    number: int | None
    hash: str | None
    at: datetime
    tenant: str | None
    actor: str
    action: str
    object_type: str
    object_id: str
    object_name: str
    allowed: bool
    code: str
    reason: str
    door: str
    address: str
    data: dict[str, Any]


class AuditPage(Page):
    """A page of records, newest first."""

    results: list[AuditShape]


def _record(row: AuditRecord) -> dict[str, Any]:
    seal = getattr(row, "seal", None)
    return {
        "id": row.pk,
        "number": seal.number if seal else None,
        "hash": seal.hash if seal else None,
        "at": row.at,
        "tenant": row.tenant.name if row.tenant else None,
        **{
            name: getattr(row, name)
            for name in (
                "actor", "action", "object_type", "object_id", "object_name", "allowed", "code", "reason", "door",
                "address", "data",
            )
        },
    }  # fmt: skip


class AuditView(ApiView):
    """The records of the caller's tenant."""

    permission_classes = (*ApiView.permission_classes, Operates)

    @call(
        "audit_list",
        "List the records of the audit, newest first",
        scope=Scope.READ,
        tag="audit",
        description="For operators and administrators. Those of the tenant `default` also see what concerns the whole "
        "installation (`tenant` null).",
        gives=AuditPage,
        refuses=("invalid_parameter", "forbidden"),
        parameters=(
            parameter("actor", "Exactly this one, such as user:alice or worker:3."),
            parameter("action", "One or more, separated by commas, such as execution.approve."),
            parameter("object_type", "Such as execution, asset, user, token, secret."),
            parameter("object_id", "The object's number or name, with `object_type`."),
            parameter("allowed", "true: what was done; false: what was refused.", OpenApiTypes.BOOL),
            parameter("door", "One or more, separated by commas.", enum=[door.value for door in Door]),
            *_PERIOD,
            *PAGING,
        ),
    )
    def get(self, request: Request) -> HttpResponse:
        names = ("actor", "action", "object_type", "object_id", "allowed", "door", "from", "to", *cursors.PARAMETERS)
        query = Query(request, names)
        rows = AuditRecord.objects.filter(records_for(caller(request))).select_related("seal", "tenant")
        if actions := query.choices("action", audit.ACTIONS):
            rows = rows.filter(action__in=actions)
        if doors := query.choices("door", [door.value for door in Door]):
            rows = rows.filter(door__in=doors)
        for name in ("actor", "object_type", "object_id"):
            if (text := query.text(name)) is not None:
                rows = rows.filter(**{name: text})
        if (allowed := query.flag("allowed")) is not None:
            rows = rows.filter(allowed=allowed)
        if (since := query.moment("from")) is not None:
            rows = rows.filter(at__gte=since)
        if (until := query.moment("to")) is not None:
            rows = rows.filter(at__lt=until)
        return cursors.page(request, query, rows, _record)


class ExportView(ApiView):
    """All of it, as a file."""

    permission_classes = (*ApiView.permission_classes, Operates)

    @call(
        "audit_export",
        "Export the audit as JSON lines or CSV, oldest first",
        scope=Scope.READ,
        tag="audit",
        description="JSON lines can be verified without this server: `manage.py verify_audit --file`. Of each chain an "
        "export holds a part without a gap, so its first and last lines can lie a little outside of the period.",
        also={(200, "application/x-ndjson"): OpenApiTypes.STR, (200, "text/csv"): OpenApiTypes.STR},
        refuses=("invalid_parameter", "forbidden"),
        parameters=(parameter("format", "jsonl when absent.", enum=FORMATS), *_PERIOD),
    )
    def get(self, request: Request) -> HttpResponseBase:
        query = Query(request, ("format", "from", "to"))
        form = (query.choices("format", FORMATS) or ["jsonl"])[0]
        since, until = query.moment("from"), query.moment("to")
        by = caller(request)
        parts = parts_of(chains=chains_for(by), since=since, until=until)
        audit.record(
            "audit.export",
            by=by,
            data={
                "format": form, "records": sum(part.last - part.first + 1 for part in parts),
                "since": since.isoformat() if since else None, "until": until.isoformat() if until else None,
            },
        )  # fmt: skip
        response = StreamingHttpResponse(_lines(form, parts), content_type=MEDIA_TYPES[form])
        response.headers["Content-Disposition"] = f'attachment; filename="audit.{form}"'
        response.headers["Cache-Control"] = "no-store"
        return response


async def _lines(form: str, parts: list[Part]) -> AsyncIterator[bytes]:
    yield header(form).encode()
    for page in pages_of(parts):
        yield "".join(await _read(form, page)).encode()


_read = database_sync_to_async(lines_of, thread_sensitive=False)
