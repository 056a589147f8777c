"""Checking an asset: can it be reached and signed in to, and how fast."""

from __future__ import annotations

from django.http import HttpResponse
from rest_framework.request import Request

from executions import services
from executions.api.answers import answer
from executions.api.assets import asset_of
from executions.api.base import ApiView, caller
from executions.api.detail import links
from executions.api.reading import Query
from executions.api.schema import call
from executions.api.shapes import AcceptedExecution
from executions.api.submissions import EXAMPLE_ACCEPTED, accepted_as_json
from executions.services import Refused
from safety.scopes import Scope

FIRST = 3  # somebody looks at it


class AssetCheckView(ApiView):
    """Checks of one asset."""

    @call(
        "assets_check",
        "Check an asset",
        scope=Scope.SUBMIT,
        tag="inventory",
        description="A worker connects to it and signs in, no more. It is an execution of the tool `asset-check`, for"
        " those who may execute_read on the asset; what it found is then `health` of the asset.",
        gives=AcceptedExecution,
        status=202,
        refuses=("not_found", "forbidden", "invalid_plan", "draining"),
        answer=EXAMPLE_ACCEPTED,
    )
    def post(self, request: Request, asset_id: int) -> HttpResponse:
        Query(request, ())
        accepted = services.check_assets([asset_of(request, asset_id)], by=caller(request), priority=FIRST)[0]
        if isinstance(accepted, Refused):
            raise accepted
        return answer(accepted_as_json(accepted), 202, {"Location": links(accepted.execution_id)["self"]})
