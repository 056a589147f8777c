"""Sync: assets that a source owns are kept as it has them. What it does not have any more is marked, never removed.

A source is a file that is read again and again, or the asset service. It owns what it says of its assets; what people
add here - a credential, a host key, more groups - stays. One asset that cannot be synced keeps no other from it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from executions.clients import AssetService
from executions.inventory_files import AssetRecord, FileContent, RowProblem, check_rows
from executions.inventory_import import ImportRefused
from executions.inventory_mirror import SERVICE as SERVICE
from executions.inventory_mirror import mirror
from executions.inventory_writing import (
    NEEDS_CONNECTION,
    change,
    changed_fields,
    create,
    in_batches,
    join_groups,
    make_groups,
)
from executions.models import Asset, AssetGroup, AssetSource
from safety import audit
from safety.models import Tenant

KEPT = ("credential", "host_key")  # a source gives them to an asset that has none
MOST_NAMED = 20  # in the audit


@dataclass(slots=True)
class SyncResult:
    """Names of assets by what became of them.

    missing      known from this source, and not there any more since now; returned: there again
    deactivated  taken out of use, because they are missing and that was asked for
    refused      what could not be synced, and is as it was
    """

    source: str
    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    unchanged: int = 0
    missing: list[str] = field(default_factory=list)
    returned: list[str] = field(default_factory=list)
    deactivated: list[str] = field(default_factory=list)
    refused: list[RowProblem] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    changes: dict[str, list[str]] = field(default_factory=dict)

    def figures(self) -> dict[str, int]:
        return {
            "created": len(self.created), "updated": len(self.updated), "unchanged": self.unchanged,
            "missing": len(self.missing), "returned": len(self.returned), "deactivated": len(self.deactivated),
            "refused": len(self.refused),
        }  # fmt: skip


def sync_file(
    content: FileContent,
    *,
    source: str,
    tenant: Tenant,
    adopt: bool = False,
    remove_missing: bool = False,
    dry_run: bool = False,
) -> SyncResult:
    """Bring the assets of a source up to date with a file, in one transaction.

    An asset is known by its external_id where the file has one, else by its name. One of that name that is not this
    source's is refused; with `adopt` one that was kept here by hand becomes this source's. Raises ImportRefused, and
    nothing is changed, when the file as a whole cannot be understood.
    """
    if content.problems:
        raise ImportRefused(content.problems, content.remarks)
    records, problems = check_rows(content)
    if not records:
        raise ImportRefused(problems, content.remarks)
    understood = {record.name for record in records}
    bad = {row.cells.get("name", "") for row in content.rows} - understood
    result = SyncResult(source, refused=problems, remarks=list(content.remarks))

    def write() -> set[int] | None:
        present = _Sync(tenant, source, adopt, result).write(records)
        if "" in bad:
            result.remarks.append("A line has no name, so nobody can say which assets are missing: none was marked.")
            return None
        return present | set(Asset.objects.filter(tenant=tenant, name__in=bad).values_list("pk", flat=True))

    return _carry_out(write, result, tenant, remove_missing=remove_missing, dry_run=dry_run)


def sync_service(
    service: AssetService, *, tenant: Tenant, remove_missing: bool = False, dry_run: bool = False
) -> SyncResult:
    """Bring the inventory of a tenant up to date with the asset service. Raises ServiceTrouble, ImportRefused."""
    rows = service.all_assets()
    if not rows:
        raise ImportRefused([RowProblem(0, "The asset service has no assets; nothing was changed.")])
    result = SyncResult(SERVICE)

    def write() -> set[int]:
        done = mirror(rows, tenant_id=tenant.pk)
        result.created, result.updated, result.unchanged = done.created, done.updated, done.unchanged
        result.refused = [RowProblem(0, sentence) for sentence in done.refused.values()]
        present = set(done.ids.values())
        # Rows may have been made earlier, when a plan looked one machine up: they are the service's, too.
        _lock(Asset.objects.filter(pk__in=present).exclude(source=SERVICE))
        Asset.objects.filter(pk__in=present).exclude(source=SERVICE).update(source=SERVICE)
        return present

    return _carry_out(write, result, tenant, remove_missing=remove_missing, dry_run=dry_run)


def _carry_out(
    write: Callable[[], set[int] | None], result: SyncResult, tenant: Tenant, *, remove_missing: bool, dry_run: bool
) -> SyncResult:
    """Do all of it in one transaction, with the lock that imports take; two syncs at once come one after the other."""
    with transaction.atomic():
        Tenant.objects.select_for_update(no_key=True).get(pk=tenant.pk)
        _lock(Asset.objects.filter(tenant=tenant, source=result.source))
        present = write()
        if present is not None:
            _mark(tenant, present, result, remove_missing=remove_missing)
        AssetSource.objects.update_or_create(
            tenant=tenant, name=result.source, defaults={"synced_at": Now(), "figures": result.figures(), "error": ""}
        )
        audit.record(
            "asset.sync", tenant_id=tenant.pk, object_type="tenant", object_id=tenant.pk, object_name=tenant.name,
            data={"source": result.source, **result.figures(), "names": _some(result)},
        )  # fmt: skip
        if dry_run:
            transaction.set_rollback(True)
    return result


def _some(result: SyncResult) -> dict[str, list[str]]:
    lists = {"created": result.created, "updated": result.updated, "missing": result.missing,
             "deactivated": result.deactivated}  # fmt: skip
    return {word: names[:MOST_NAMED] for word, names in lists.items() if names}


def _lock(rows: Any) -> None:
    """Hold rows in the order of their numbers, as whoever marks many assets does: so nobody waits in a ring."""
    list(rows.select_for_update(no_key=True).order_by("pk").values_list("pk", flat=True))


def _mark(tenant: Tenant, present: Collection[int], result: SyncResult, *, remove_missing: bool) -> None:
    """Say of the source's assets which are there and which are not."""
    owned = Asset.objects.filter(tenant=tenant, source=result.source)
    there, gone = owned.filter(pk__in=present), owned.exclude(pk__in=present)
    returned, missing = there.filter(missing_since_at__isnull=False), gone.filter(missing_since_at__isnull=True)
    result.returned, result.missing = _names(returned), _names(missing)
    returned.update(missing_since_at=None)
    missing.update(missing_since_at=Now())
    there.update(last_seen_at=Now())
    if remove_missing:
        in_use = gone.filter(is_active=True)
        result.deactivated = _names(in_use)
        in_use.update(is_active=False, updated_at=Now())


def _names(rows: Any) -> list[str]:
    return list(rows.order_by("name").values_list("name", flat=True))


class _Sync:
    """Compares the records of a file with what is there, and writes the differences in batches."""

    def __init__(self, tenant: Tenant, source: str, adopt: bool, result: SyncResult) -> None:
        self.tenant = tenant
        self.source = source
        self.adopt = adopt
        self.result = result

    def write(self, records: Sequence[AssetRecord]) -> set[int]:
        """Return the numbers of all assets that the file has, also of those that were refused."""
        groups, _ = make_groups(self.tenant, records)
        present: set[int] = set()
        for batch in in_batches(records):
            present |= self._write_batch(batch, groups)
        return present

    def _write_batch(self, batch: Sequence[AssetRecord], groups: Mapping[str, AssetGroup]) -> set[int]:
        by_name, by_id = self._known(batch)
        new: list[AssetRecord] = []
        changes: list[tuple[Asset, dict[str, Any]]] = []
        matched: list[tuple[AssetRecord, Asset]] = []
        present = set()
        for record in batch:
            named = by_name.get(record.name)
            asset = by_id.get(record.fields.get("external_id", "")) or named
            if asset is None:
                if self._can_be_made(record):
                    new.append(record)
                continue
            present.add(asset.pk)
            if not self._is_ours(record, asset, named):
                continue
            matched.append((record, asset))
            if fields := self._differences(record, asset):
                changes.append((asset, fields))
        changed = {asset.pk for asset, _ in changes}
        change(changes)
        made = create(self.tenant, new, source=self.source)
        joined = [(asset, _groups_to_join(record, asset)) for record, asset in matched]
        joined += [(asset, list(record.groups or ())) for record, asset in zip(new, made, strict=True)]
        join_groups(joined, groups)
        regrouped = {asset.pk: asset.name for asset, names in joined if names and asset.pk not in {a.pk for a in made}}
        for asset, fields in changes:
            self.result.changes[asset.name] = sorted(fields)
        for name in regrouped.values():
            self.result.changes.setdefault(name, []).append("groups")
        touched = changed | set(regrouped)
        self.result.created += [asset.name for asset in made]
        self.result.updated += [asset.name for _, asset in matched if asset.pk in touched]
        self.result.unchanged += sum(asset.pk not in touched for _, asset in matched)
        return present | {asset.pk for asset in made}

    def _known(self, batch: Iterable[AssetRecord]) -> tuple[dict[str, Asset], dict[str, Asset]]:
        """The assets that the records could mean, held: by name, and this source's by their external id."""
        ids = {number for record in batch if (number := record.fields.get("external_id"))}
        meant = Q(name__in={record.name for record in batch}) | Q(external_id__in=ids)
        held = Asset.objects.select_for_update(no_key=True).filter(meant, tenant=self.tenant).order_by("pk")
        assets = list(held.prefetch_related("groups"))
        by_id = {asset.external_id: asset for asset in assets if asset.external_id and asset.source == self.source}
        return {asset.name: asset for asset in assets}, by_id

    def _can_be_made(self, record: AssetRecord) -> bool:
        number = record.fields.get("external_id")
        if number and Asset.objects.filter(tenant=self.tenant, external_id=number).exists():
            self._refuse(record, f"The external_id {number!r} belongs to an asset that is not of {self.source!r}.")
            return False
        if not record.connection:
            self._refuse(record, NEEDS_CONNECTION)
        return bool(record.connection)

    def _is_ours(self, record: AssetRecord, asset: Asset, named: Asset | None) -> bool:
        if named is not None and named.pk != asset.pk:
            self._refuse(record, f"{asset.name!r} is called {record.name!r} now, and another asset has that name.")
            return False
        if asset.source == self.source or (self.adopt and not asset.source):
            return True
        whose = f"belongs to {asset.source!r}" if asset.source else "is kept here by hand"
        way_out = "" if asset.source else f" Give --adopt to have it kept by {self.source!r} from now on."
        self._refuse(record, f"{asset.name!r} {whose}, and was left as it is.{way_out}")
        return False

    def _differences(self, record: AssetRecord, asset: Asset) -> dict[str, Any]:
        wanted = {
            name: value
            for name, value in record.fields.items()
            if name not in KEPT or not getattr(asset, name)  # what people set here stays
        }
        if asset.source != self.source:
            wanted["source"] = self.source
        return {name: wanted[name] for name in changed_fields(asset, wanted)}

    def _refuse(self, record: AssetRecord, message: str) -> None:
        self.result.refused.append(RowProblem(record.line, message, record.source))


def _groups_to_join(record: AssetRecord, asset: Asset) -> list[str]:
    """Those that the source names and the asset is not in. It leaves none: people may have put it there."""
    present = {group.name for group in asset.groups.all()}
    return [name for name in record.groups or () if name not in present]
