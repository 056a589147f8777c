"""The SSH host key of an asset: what the machine shows now, and pinning what somebody has compared."""

from __future__ import annotations

from typing import Annotated

from django.http import HttpResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from rest_framework.request import Request

from executions.api.answers import answer
from executions.api.assets import AssetSerializer, InventoryView, asset_of, asset_shape
from executions.api.base import ApiView, caller
from executions.api.problems import ApiProblem
from executions.api.reading import Query, read_body
from executions.api.schema import call
from executions.live.host_key_looks import Choice, Offer, look, offers, pin_host_key
from executions.models import Connection
from safety.scopes import Scope

Fingerprint = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class ShownKey(BaseModel):
    """A key that the machine shows; `known`: that the inventory has it."""

    key: str
    fingerprint: str
    known: bool


class HostKeyLook(BaseModel):
    """What the machine showed, beside the fingerprints that the inventory knows.

    `standing`: new (none is known), same (one of those shown is known), CHANGED, or `not shown`, with why in `error`.
    """

    execution_id: int
    complete: bool = Field(description="False: it had not answered yet; the execution goes on.")
    standing: str
    shown: list[ShownKey]
    known: list[str]
    error_code: str
    error: str


class HostKeyPin(BaseModel):
    """The key that was compared with what the machine's own console says."""

    model_config = ConfigDict(extra="forbid")

    fingerprint: Fingerprint = Field(description="One of those that the machine shows.")
    replaces: list[Fingerprint] = Field(
        default_factory=list, max_length=50, description="What the inventory knows now: `known` of the look."
    )


def look_shape(offer: Offer, execution_id: int) -> dict[str, object]:
    known = offer.known
    return {
        "execution_id": execution_id,
        "complete": offer.is_known,
        "standing": str(offer.standing),
        "shown": [
            {"key": key.line, "fingerprint": key.fingerprint, "known": key.fingerprint in known} for key in offer.keys
        ],
        "known": known,
        "error_code": offer.error_code,
        "error": offer.error,
    }


class HostKeyLookView(ApiView):
    """Looks at the host key of one asset."""

    @call(
        "assets_look_at_host_key",
        "Ask a machine which SSH host keys it shows",
        scope=Scope.SUBMIT,
        tag="inventory",
        description="A worker asks it, without signing in: an execution of the tool `asset-host-key`, for those who may"
        " execute_read on the asset. It is waited for, for up to 25 s. Nothing is believed or kept.",
        gives=HostKeyLook,
        refuses=("not_found", "forbidden", "no_host_key", "invalid_plan", "draining"),
    )
    def post(self, request: Request, asset_id: int) -> HttpResponse:
        Query(request, ())
        asset = asset_of(request, asset_id)
        if asset.connection != Connection.SSH:
            raise ApiProblem("no_host_key", f"{asset.name} is reached by {asset.connection}, which knows none.")
        executions = look([asset], by=caller(request))
        return answer(look_shape(offers([asset], executions)[0], executions[0]))


class HostKeyPinView(InventoryView):
    """Pinning the host key of one asset."""

    @call(
        "assets_pin_host_key",
        "Pin the host key that somebody has compared",
        scope=Scope.OPERATE,
        tag="inventory",
        description="The machine is asked once more: exactly this key is written, if it shows it and if the inventory"
        " still knows what `replaces` says. Needs execute_read on the asset besides.",
        takes=HostKeyPin,
        gives=AssetSerializer,
        refuses=(
            "not_found", "forbidden", "invalid_input", "no_host_key", "host_key_not_shown", "another_host_key",
            "host_key_moved_on", "invalid_plan", "draining",
        ),
        example={"fingerprint": "SHA256:fcpuO/qBhwF1jSbWjsmSg0ZwYEbmqlcoQLhqdXV7wAg", "replaces": []},
    )  # fmt: skip
    def post(self, request: Request, asset_id: int) -> HttpResponse:
        Query(request, ())
        asset_of(request, asset_id)
        wanted = HostKeyPin.model_validate(read_body(request))
        pin_host_key(Choice(asset_id, wanted.fingerprint, tuple(wanted.replaces)), by=caller(request))
        return answer(asset_shape(asset_of(request, asset_id)))
