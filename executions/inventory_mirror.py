"""The assets of an asset service as rows of our own, so that locks, rights and approvals have something to hold.

The service owns what it says. What it leaves null stays as it is here, so that an environment or an owner can be added;
but not where the machine is: an address that is gone there is gone here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.db.models import Q
from django.utils import timezone

from executions.clients.asset_shapes import ServiceAsset
from executions.clients.words import NO_CONNECTION, connection_of, criticality_of, environment_of, is_target
from executions.models import Asset
from safety import audit
from safety.models import Tenant

log = logging.getLogger(__name__)

SERVICE = "asset-service"  # the source of an asset that was synced with the service
FIRST_NUMBER = 1_000_000_001  # of the rows that are made here
BATCH_ROWS = 1_000
TRIES = 3
MOST_NAMED = 20  # of the changed ones, in the audit

_LENGTHS = {
    "hostname": 255, "device_type": 60, "os_type": 30, "os_version": 60, "status": 30, "environment": 30,
    "criticality": 20, "service_type": 30, "credential_type": 30, "secondary_service_type": 30,
    "owner": 120, "support_contact": 120, "username": 120, "domain": 120,
}  # fmt: skip
_PLACE = ("hostname", "ip_address", "port", "connection")


@dataclass(slots=True)
class Mirrored:
    """What became of the rows: names by what was done, and the ids here by those of the service.

    refused  sentences by the service's ids: rows that are as they were, and that have no place in `ids`
    """

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    unchanged: int = 0
    ids: dict[str, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def add(self, other: Mirrored) -> None:
        self.created += other.created
        self.updated += other.updated
        self.unchanged += other.unchanged
        self.ids.update(other.ids)
        self.refused.update(other.refused)


def mirror(rows: Sequence[ServiceAsset], *, tenant_id: int) -> Mirrored:
    """Bring the assets of `rows` here up to date, making those that are missing; nothing is ever removed.

    A row that is not the service's and has a credential is moved nowhere: whoever wrote the service's id into it may
    not have been allowed to use that credential, least of all on another machine. It is refused and stays as it is.

    Two that do this at once: the second waits for the first, by the lock on the tenant that imports take as well, and
    compares again, so neither meets the other's new rows in a unique index. Nothing is locked when nothing differs.
    """
    latest = {row.id: row for row in rows}
    result = Mirrored()
    batches = [list(latest.values())[start : start + BATCH_ROWS] for start in range(0, len(latest), BATCH_ROWS)]
    for batch in batches:
        if not _is_as_it_should_be(batch, tenant_id, result):
            result.add(_insist(batch, tenant_id))
    return result


def _is_as_it_should_be(batch: Sequence[ServiceAsset], tenant_id: int, result: Mirrored) -> bool:
    """Without a lock: whether every row is here and the same already; notes them in `result` if so."""
    known = _known(batch, tenant_id)
    refused = _refused(batch, known)
    rest = [row for row in batch if row.id not in refused]
    if len(known) < len(batch) or any(_differences(row, known[row.id]) for row in rest):
        return False
    result.unchanged += len(rest)
    result.ids.update((row.id, known[row.id].pk) for row in rest)
    result.refused.update(refused)
    return True


def _insist(batch: Sequence[ServiceAsset], tenant_id: int) -> Mirrored:
    """Bring a batch up to date. Whoever makes an asset by hand takes no lock, and may have taken a name meanwhile: that
    shows in the unique index, and the next look sees it."""
    for _ in range(TRIES - 1):
        try:
            return _bring_up_to_date(batch, tenant_id)
        except IntegrityError:
            continue
    return _bring_up_to_date(batch, tenant_id)


def _bring_up_to_date(batch: Sequence[ServiceAsset], tenant_id: int) -> Mirrored:
    result = Mirrored()
    with transaction.atomic():
        # Not FOR UPDATE, which would wait for every submit: whatever refers to the tenant holds FOR KEY SHARE on it.
        tenant = Tenant.objects.select_for_update(no_key=True).get(pk=tenant_id)
        # And the rows, in the order of whoever else takes several: what a person writes meanwhile is not written over.
        known = _known(batch, tenant_id, locked=True)
        result.refused = _refused(batch, known)
        batch = [row for row in batch if row.id not in result.refused]
        known = {number: asset for number, asset in known.items() if number not in result.refused}
        names = _Names(tenant_id, batch)
        new: list[Asset] = []
        changed: list[Asset] = []
        columns: set[str] = set()
        for row in batch:
            asset = known.get(row.id)
            if asset is None:
                asset = Asset(tenant_id=tenant_id, external_id=row.id, environment="production", criticality="medium")
                asset.connection = NO_CONNECTION
                new.append(asset)
            differences = _differences(row, asset, names)
            if row.id in known:
                if not differences:
                    result.unchanged += 1
                    continue
                changed.append(asset)
                columns |= differences.keys()
            for column, value in differences.items():
                setattr(asset, column, value)
            asset.updated_at = timezone.now()  # bulk_update does not set it
        for asset, number in zip(new, _numbers(len(new)), strict=True):
            asset.pk = number
        made = Asset.objects.bulk_create(new)
        if changed:
            Asset.objects.bulk_update(changed, [*sorted(columns), "updated_at"], batch_size=BATCH_ROWS)
        result.created += [asset.name for asset in made]
        result.updated += [asset.name for asset in changed]
        result.ids.update((asset.external_id, asset.pk) for asset in (*known.values(), *made))
        if made or changed:
            audit.record(
                "asset.import", tenant_id=tenant_id, object_type="tenant", object_id=tenant_id, object_name=tenant.name,
                data={
                    "source": "asset-service", "created": len(made), "updated": len(changed),
                    "names": [asset.name for asset in (*made, *changed)[:MOST_NAMED]],
                },
            )  # fmt: skip
    return result


def _numbers(count: int) -> list[int]:
    """Return ids for new rows: from a thousand million on, so that a number in a plan is either ours or the service's.

    Numbers of that service and of our own assets are small, and a planner that asked the service knows only those.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval('executions_mirrored_asset_id') FROM generate_series(1, %s)", [count])
        return [number for (number,) in cursor.fetchall()]


def _known(batch: Iterable[ServiceAsset], tenant_id: int, *, locked: bool = False) -> dict[str, Asset]:
    found = Asset.objects.filter(tenant_id=tenant_id, external_id__in=[row.id for row in batch])
    if locked:
        found = found.select_for_update(no_key=True).order_by("pk")
    return {asset.external_id: asset for asset in found}


def _refused(batch: Iterable[ServiceAsset], known: Mapping[str, Asset]) -> dict[str, str]:
    """Return a sentence for each row that would move a credential which was not given to a row of the service."""
    refused = {}
    for row in batch:
        asset = known.get(row.id)
        if asset is None or not asset.credential or _is_of_service(asset):
            continue
        if moved := [
            column for column, value in _columns(row) if _is_place(column, row) and _differs(asset, column, value)
        ]:
            refused[row.id] = (
                f"{asset.name} has the id {row.id} of the asset service and a credential, and is not kept by that"
                f" service, which says another {', '.join(moved).replace('_', ' ')}. It was left as it is. Take the id"
                " or the credential from it, or write what the service says."
            )
    for sentence in refused.values():
        log.warning("%s", sentence)
    return refused


def _is_of_service(asset: Asset) -> bool:
    """Whether the row was made from the service's, or has been synced with it."""
    return asset.source == SERVICE or (not asset.source and asset.pk >= FIRST_NUMBER)


def _is_place(column: str, row: ServiceAsset) -> bool:
    """Whether the column decides where the machine is. Its name does when nothing else does."""
    return column in _PLACE or (column == "name" and not (row.hostname or row.ip_address))


def _differs(asset: Asset, column: str, value: object) -> bool:
    return (getattr(asset, column) or None) != (value or None)


def _differences(row: ServiceAsset, asset: Asset, names: _Names | None = None) -> dict[str, Any]:
    """Return what is to be changed of an asset so that it says what the service says.

    Its name is the service's as long as nobody else here has it; without `names` a name that was made apart once is
    taken for right.
    """
    wanted = dict(_columns(row))
    if names is not None:
        wanted["name"] = names.name_for(row, asset)
    elif asset.name in _spellings(row):
        wanted["name"] = asset.name
    return {column: value for column, value in wanted.items() if getattr(asset, column) != value}


def _columns(row: ServiceAsset) -> Iterator[tuple[str, Any]]:
    yield "name", _plain_name(row)
    yield "ip_address", row.ip_address
    yield "hostname", row.hostname[: _LENGTHS["hostname"]]
    yield "port", row.port
    yield "is_active", is_target(is_active=row.is_active, status=row.status)
    said: dict[str, Any] = {
        "description": row.description,
        "device_type": row.device_type,
        "os_type": row.os_type.lower(),
        "os_version": row.os_version,
        "status": row.status.lower(),
        "environment": row.environment and environment_of(row.environment),
        "criticality": row.criticality and criticality_of(row.criticality),
        "owner": row.owner,
        "support_contact": row.support_contact,
        "service_type": row.service_type.lower(),
        "connection": row.service_type and connection_of(row.service_type),
        "username": row.username,
        "domain": row.domain,
        "credential_type": row.credential_type.lower(),
        "secondary_service_type": row.secondary_service_type.lower(),
    }
    for column, value in said.items():
        if value:
            yield column, value[: _LENGTHS.get(column)]
    # Not `additional_services`: what is in there nobody has said, and it may be how to sign in.
    if row.is_secure is not None:
        yield "is_secure", row.is_secure
    if row.secondary_port is not None:
        yield "secondary_port", row.secondary_port
    if row.tags is not None:
        yield "tags", list(row.tags)


def _plain_name(row: ServiceAsset) -> str:
    return (row.name or row.hostname or row.ip_address or f"asset {row.id}")[:255]


def _spellings(row: ServiceAsset) -> tuple[str, str]:
    """The name of an asset here: the service's, or the same with its id when another asset has that one."""
    plain = _plain_name(row)
    return plain, f"{plain[: 250 - len(row.id)]} ({row.id})"


class _Names:
    """Which names of a tenant are taken, by whom, while a batch is written under the tenant's lock."""

    def __init__(self, tenant_id: int, batch: Iterable[ServiceAsset]) -> None:
        wanted = {spelling for row in batch for spelling in _spellings(row)}
        taken = Asset.objects.filter(Q(name__in=wanted), tenant_id=tenant_id).values_list("name", "external_id", "pk")
        self._taken: dict[str, str] = {name: external_id or f"\0{pk}" for name, external_id, pk in taken}

    def name_for(self, row: ServiceAsset, asset: Asset) -> str:
        """Return the first spelling that nobody else has, and keep it for this asset."""
        for spelling in _spellings(row):
            if self._taken.setdefault(spelling, row.id) == row.id:
                return spelling
        number = 2
        while self._taken.setdefault(spelling := f"{_spellings(row)[1][:240]} {number}", row.id) != row.id:
            number += 1
        return spelling
