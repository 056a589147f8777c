"""Clients of the two services that an installation may already have (docs/decisions/0024-service-clients.md).

One of each for a process, made when it is first asked for; None where no service is configured.
"""

from __future__ import annotations

from functools import cache

from django.conf import settings

from executions.clients.assets import AssetService
from executions.clients.client import AT_A_DOOR, IN_A_WORKER, Patience, ServiceClient, trace_id
from executions.clients.troubles import (
    AnswerLost,
    BadAnswer,
    BreakerOpen,
    Declined,
    GivenUp,
    NotReached,
    ServiceTrouble,
)
from safety.models import Tenant

__all__ = [
    "AT_A_DOOR",
    "IN_A_WORKER",
    "AnswerLost",
    "AssetService",
    "BadAnswer",
    "BreakerOpen",
    "Declined",
    "GivenUp",
    "NotReached",
    "Patience",
    "ServiceClient",
    "ServiceTrouble",
    "asset_service",
    "is_asset_service_of",
    "trace_id",
]


@cache
def asset_service() -> AssetService | None:
    """Return the client of the asset service, None without one."""
    if settings.ASSET_SERVICE is None:
        return None
    service = AssetService(settings.ASSET_SERVICE)
    service.client.put_in_use()
    return service


def is_asset_service_of(tenant_id: int) -> bool:
    """Whether the assets of this tenant are in the asset service."""
    if settings.ASSET_SERVICE is None:
        return False
    return Tenant.objects.filter(pk=tenant_id, name=settings.ASSET_SERVICE_TENANT).exists()
