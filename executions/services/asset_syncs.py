"""Syncs with the asset service, now and then, by one worker of all."""

from __future__ import annotations

import logging
import threading
import time
from datetime import UTC, datetime

from django.conf import settings
from django.db import connection
from django.db.models.functions import Now

from executions.clients import ServiceTrouble, asset_service
from executions.inventory_import import ImportRefused
from executions.inventory_sync import SERVICE, sync_service
from executions.models import AssetSource
from safety.models import Tenant

log = logging.getLogger(__name__)

LOOK_EVERY_SECONDS = 5.0
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class AssetSyncs:
    """One for each worker. `nudge` is for its upkeep and never waits for the service: that is a thread's to do."""

    def __init__(self) -> None:
        self._looked_at = -LOOK_EVERY_SECONDS
        self._thread: threading.Thread | None = None

    def nudge(self) -> None:
        """Begin a sync if one is due and no worker has begun it."""
        now = time.monotonic()
        if not settings.ASSET_SYNC or asset_service() is None or now - self._looked_at < LOOK_EVERY_SECONDS:
            return
        self._looked_at = now
        if self._thread is not None and self._thread.is_alive():
            return
        tenant = Tenant.objects.filter(name=settings.ASSET_SERVICE_TENANT).first()
        if tenant is not None and begin_if_due(tenant):
            self._thread = threading.Thread(target=_sync, args=(tenant,), name="asset-sync", daemon=True)
            self._thread.start()


def begin_if_due(tenant: Tenant) -> bool:
    """Whether a sync is due and this caller is the one to do it.

    Of all workers that ask at the same moment the first to change the row wins; the others compare what it wrote. One
    that dies in the middle leaves the source to whoever comes ASSET_SYNC later. A row that is not there is made first:
    the unique key lets one of them make it.
    """
    AssetSource.objects.bulk_create([AssetSource(tenant=tenant, name=SERVICE, begun_at=_NEVER)], ignore_conflicts=True)
    due = AssetSource.objects.filter(tenant=tenant, name=SERVICE, begun_at__lte=Now() - settings.ASSET_SYNC)
    return due.update(begun_at=Now()) == 1


def _sync(tenant: Tenant) -> None:
    service = asset_service()
    assert service is not None
    try:
        result = sync_service(service, tenant=tenant)
        log.info("Assets synced with the asset service: %s.", result.figures())
    except (ServiceTrouble, ImportRefused) as trouble:
        problems = getattr(trouble, "problems", None)
        said = "; ".join(map(str, problems)) if problems else str(trouble)
        AssetSource.objects.filter(tenant=tenant, name=SERVICE).update(error=said[:1000])
        log.warning("Assets could not be synced with the asset service: %s", said)
    except Exception:
        log.exception("Assets could not be synced with the asset service.")
    finally:
        connection.close()
