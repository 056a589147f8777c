"""Assets in batches: what an import and a sync both do with the records of a file or service."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from django.utils import timezone

from executions.inventory_files import AssetRecord
from executions.models import Asset, AssetGroup
from safety.models import Tenant

T = TypeVar("T")

BATCH_ROWS = 1_000
NEEDS_CONNECTION = "A new asset needs a connection, or a service_type that implies it (ssh, winrm, http, https)."

Progress = Callable[[int, int], None]  # (rows done, rows in all)


def in_batches(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(rows), BATCH_ROWS):
        yield rows[start : start + BATCH_ROWS]


def make_groups(tenant: Tenant, records: Sequence[AssetRecord]) -> tuple[dict[str, AssetGroup], list[str]]:
    """Return all groups that the records name, and the names of those that had to be made."""
    names = {name for record in records for name in record.groups or ()}
    groups = {group.name: group for group in AssetGroup.objects.filter(tenant=tenant, name__in=names)}
    missing = sorted(names - set(groups))
    made = AssetGroup.objects.bulk_create([AssetGroup(tenant=tenant, name=name) for name in missing])
    return groups | {group.name: group for group in made}, missing


def changed_fields(asset: Asset, fields: Mapping[str, Any]) -> list[str]:
    """Return the names of the fields in which the asset is not as given."""
    return [name for name, value in fields.items() if getattr(asset, name) != value]


def create(tenant: Tenant, records: Sequence[AssetRecord], **more: Any) -> list[Asset]:
    """Make an asset of each record, with the columns of `more` in all of them."""
    return Asset.objects.bulk_create(
        [Asset(tenant=tenant, **{**record.fields, "connection": record.connection, **more}) for record in records]
    )


def change(changes: Sequence[tuple[Asset, Mapping[str, Any]]]) -> None:
    """Set the given fields of each asset, with one statement."""
    columns = {"updated_at"}
    for asset, fields in changes:
        asset.updated_at = timezone.now()  # bulk_update does not set it
        for name, value in fields.items():
            setattr(asset, name, value)
        columns |= set(fields)
    if changes:
        Asset.objects.bulk_update([asset for asset, _ in changes], sorted(columns))


def join_groups(members: Sequence[tuple[Asset, Sequence[str]]], groups: Mapping[str, AssetGroup]) -> None:
    """Put each asset into the groups of these names; those it is in already do no harm."""
    Asset.groups.through._default_manager.bulk_create(
        [
            Asset.groups.through(asset_id=asset.pk, assetgroup_id=groups[name].pk)
            for asset, names in members
            for name in names
        ],
        ignore_conflicts=True,
    )


def leave_groups(assets: Sequence[Asset]) -> None:
    """Take the assets out of all groups."""
    Asset.groups.through._default_manager.filter(asset__in=[asset.pk for asset in assets]).delete()
