"""The inventory of a tenant whose machines an asset service knows.

What the service says now is what counts. It is mirrored into rows of our own first, and then looked up as ever; a row
that was mirrored earlier, and that the service does not name any more, is no machine. Assets that were made here,
`localhost` first of all, stay beside those of the service.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from django.db.models import Q, QuerySet

from executions.clients import AssetService, Patience, ServiceTrouble, asset_service, is_asset_service_of
from executions.clients.asset_shapes import ServiceAsset
from executions.clients.assets import names
from executions.inventory import SINGLE_LOOKUPS, Index, TenantInventory, parse_id
from executions.inventory_mirror import mirror
from executions.models import Asset
from executions.plans.inventory import InventoryAsset, InventoryUnavailable
from safety.models import User

T = TypeVar("T")

RETRY_SECONDS = 15  # where the service does not say itself when


def inventory_of(tenant_id: int, patience: Patience, *, seen_by: User | None = None) -> TenantInventory:
    """Return the inventory of a tenant: the asset service's where it is configured for the tenant, else our own.

    seen_by: as of TenantInventory."""
    service = asset_service()
    if service is None or not is_asset_service_of(tenant_id):
        return TenantInventory(tenant_id, seen_by=seen_by)
    return ServiceInventory(tenant_id, service, patience, seen_by=seen_by)


class ServiceInventory(TenantInventory):
    """As TenantInventory, with a request to the service for each reference; or for its whole list, for many references,
    groups, tags and queries. Raises InventoryUnavailable: once asked in vain, it is not asked again.
    """

    def __init__(
        self, tenant_id: int, service: AssetService, patience: Patience, *, seen_by: User | None = None
    ) -> None:
        super().__init__(tenant_id, seen_by=seen_by)
        self._service = service
        self._patience = patience
        self._rows: Sequence[ServiceAsset] | None = None  # of the whole list, once it was read
        self._present: dict[str, int] = {}  # ids here of what the service named, by its own
        self._names: dict[int, str] = {}  # what it calls them: here a name may have had to be made apart
        self._trouble: InventoryUnavailable | None = None

    def prefetch(self) -> None:
        self._read_all()
        super().prefetch()
        if self._index is not None:
            self._index = _ServiceIndex(self._index.assets, self._names)

    def _assets(self) -> QuerySet[Asset]:
        self._read_all()
        return super()._assets().filter(Q(external_id="") | Q(pk__in=list(self._present.values())))

    def _candidates(self, ref: str) -> Index:
        found = self._mirrored(self._named(ref))
        number, here = parse_id(ref), self._matches(ref)
        by_our_id = next((asset.external_id for asset in here if asset.external_id and asset.asset_id == number), None)
        if (
            by_our_id is not None
        ):  # the service is not asked for our ids, so it has not said that this one is still there
            found += self._mirrored(self._with_id(by_our_id))
        own = [asset for asset in here if not asset.external_id]
        return _ServiceIndex([*own, *self._active(found)], self._names)

    def _named(self, ref: str) -> Sequence[ServiceAsset]:
        """Return the service's assets that `ref` could name by any key."""
        if self._rows is None and self._single_lookups >= SINGLE_LOOKUPS:
            self._read_all()
        if self._rows is not None:
            return [row for row in self._rows if row.id == ref or names(row, ref)]
        return self._ask(lambda: self._service.candidates(ref, patience=self._patience))

    def _with_id(self, external_id: str) -> Sequence[ServiceAsset]:
        if self._rows is not None:
            return [row for row in self._rows if row.id == external_id]
        found = self._ask(lambda: self._service.get(external_id, patience=self._patience))
        return [] if found is None else [found]

    def _read_all(self) -> None:
        if self._rows is None:
            rows = self._ask(lambda: self._service.all_assets(patience=self._patience))
            self._mirrored(rows)
            self._rows = rows

    def _ask(self, question: Callable[[], T]) -> T:
        if self._trouble is not None:
            raise self._trouble
        try:
            return question()
        except ServiceTrouble as trouble:
            self._trouble = InventoryUnavailable(
                f"The inventory cannot be asked: {trouble.message}", retry_after=trouble.retry_after or RETRY_SECONDS
            )
            raise self._trouble from None

    def _mirrored(self, rows: Sequence[ServiceAsset]) -> list[int]:
        ids = mirror(rows, tenant_id=self.tenant_id).ids if rows else {}
        self._present.update(ids)
        self._names.update({ids[row.id]: row.name for row in rows if row.name and row.id in ids})
        return list(ids.values())

    def _active(self, ids: Sequence[int]) -> list[InventoryAsset]:
        return self._shown(Asset.objects.filter(pk__in=ids, tenant_id=self.tenant_id, is_active=True)) if ids else []


class _ServiceIndex(Index):
    """As Index, but a reference may be the service's id, and a name and a short host name count alike: the service has
    no order between them, so two machines that are meant by either are two.
    """

    def __init__(self, assets: Iterable[InventoryAsset], service_names: Mapping[int, str]) -> None:
        super().__init__(assets)
        self._external: dict[str, list[InventoryAsset]] = {}
        for asset in self.assets:
            if asset.external_id:
                self._external[asset.external_id] = [asset]
            name = service_names.get(asset.asset_id, asset.name)
            if name != asset.name:
                self.names[name].append(asset)

    def lookup(self, ref: str) -> Sequence[InventoryAsset]:
        by_id = _each_once(self.by_id(ref), self._external.get(ref, ()))
        return (
            by_id
            or self.by_address(ref)
            or self.host_names.get(ref.lower())
            or _each_once(self.names.get(ref, ()), self.short_host_names.get(ref.lower(), ()))
        )


def _each_once(*found: Iterable[InventoryAsset]) -> list[InventoryAsset]:
    return list({asset.asset_id: asset for assets in found for asset in assets}.values())
