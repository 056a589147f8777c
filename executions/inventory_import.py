"""Import of assets from a file: all of it or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from django.db import transaction
from django.utils import timezone

from executions.inventory_files import READERS, AssetRecord, RowProblem, check_rows
from executions.models import Asset, AssetGroup
from safety import audit
from safety.models import Tenant, User

BATCH_ROWS = 1_000

Progress = Callable[[int, int], None]  # (rows done, rows in all)


class ImportRefused(Exception):
    """The file was not imported, not even a part of it: correct the lines listed, then import it again."""

    def __init__(self, problems: Iterable[RowProblem]) -> None:
        self.problems = sorted(problems, key=lambda problem: problem.line)
        super().__init__(f"{len(self.problems)} problems")


@dataclass(slots=True)
class ImportResult:
    """Names of the assets by what became of them, and of the groups that were made."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    groups_created: list[str] = field(default_factory=list)


def import_assets(
    content: bytes,
    *,
    file_name: str,
    tenant: Tenant,
    update: bool = False,
    dry_run: bool = False,
    by: User | None = None,
    progress: Progress = lambda done, total: None,
) -> ImportResult:
    """Import all assets of a file into a tenant, in one transaction.

    An asset is known by its name. One that exists and differs is changed if `update`, else it is a problem. Cells that
    are empty, and columns that are not there, leave an existing asset as it is. Groups that are missing are made.
    Raises ImportRefused with the problems of all rows.
    """
    reader = READERS.get(PurePath(file_name).suffix.lower())
    if reader is None:
        raise ImportRefused([RowProblem(0, f"A file named *{', *'.join(READERS)} is needed, not {file_name!r}.")])
    records, problems = check_rows(reader(content))
    with transaction.atomic():
        Tenant.objects.select_for_update().get(pk=tenant.pk)  # one import at a time
        writer = _Writer(tenant, records, update)
        writer.write(progress)  # also when there are problems already: to find those of the other rows
        problems += writer.problems
        if problems:
            raise ImportRefused(problems)
        done = writer.result
        audit.record(
            "asset.import", by=by, tenant_id=tenant.pk, object_type="tenant", object_id=tenant.pk,
            object_name=tenant.name, data={"created": len(done.created), "updated": len(done.updated),
                                           "groups_created": done.groups_created, "file": PurePath(file_name).name},
        )  # fmt: skip
        if dry_run:
            transaction.set_rollback(True)
    return writer.result


class _Writer:
    """Compares the records with what is there, and writes the differences in batches."""

    def __init__(self, tenant: Tenant, records: Sequence[AssetRecord], update: bool) -> None:
        self.tenant = tenant
        self.records = records
        self.update = update
        self.result = ImportResult()
        self.problems: list[RowProblem] = []

    def write(self, progress: Progress) -> None:
        groups = self._groups()
        for start in range(0, len(self.records), BATCH_ROWS):
            batch = self.records[start : start + BATCH_ROWS]
            self._write_batch(batch, groups)
            progress(start + len(batch), len(self.records))

    def _groups(self) -> dict[str, AssetGroup]:
        names = {name for record in self.records for name in record.groups or ()}
        groups = {group.name: group for group in AssetGroup.objects.filter(tenant=self.tenant, name__in=names)}
        self.result.groups_created = sorted(names - set(groups))
        made = [AssetGroup(tenant=self.tenant, name=name) for name in self.result.groups_created]
        return groups | {group.name: group for group in AssetGroup.objects.bulk_create(made)}

    def _write_batch(self, batch: Sequence[AssetRecord], groups: Mapping[str, AssetGroup]) -> None:
        found = Asset.objects.filter(tenant=self.tenant, name__in=[record.name for record in batch])
        assets = {asset.name: asset for asset in found.prefetch_related("groups")}
        new = [record for record in batch if record.name not in assets and self._can_be_made(record)]
        changed = [
            record for record in batch if record.name in assets and self._is_to_change(record, assets[record.name])
        ]
        made = Asset.objects.bulk_create(
            [Asset(tenant=self.tenant, **{**record.fields, "connection": record.connection}) for record in new]
        )
        self.result.created += [asset.name for asset in made]
        self._change(changed, assets)
        assets |= {asset.name: asset for asset in made}
        self._set_groups([*new, *changed], assets, groups)

    def _can_be_made(self, record: AssetRecord) -> bool:
        if record.connection:
            return True
        message = "A new asset needs a connection, or a service_type that implies it (ssh, winrm, http, https)."
        self.problems.append(RowProblem(record.line, message))
        return False

    def _is_to_change(self, record: AssetRecord, asset: Asset) -> bool:
        same_fields = all(getattr(asset, name) == value for name, value in record.fields.items())
        same_groups = record.groups is None or set(record.groups) == {group.name for group in asset.groups.all()}
        if same_fields and same_groups:
            self.result.unchanged.append(asset.name)
            return False
        if not self.update:
            message = f"{record.name!r} exists already and differs. Give --update to change it."
            self.problems.append(RowProblem(record.line, message))
            return False
        self.result.updated.append(asset.name)
        return True

    @staticmethod
    def _change(records: Sequence[AssetRecord], assets: Mapping[str, Asset]) -> None:
        columns = {"updated_at"}
        for record in records:
            asset = assets[record.name]
            asset.updated_at = timezone.now()  # bulk_update does not set it
            for name, value in record.fields.items():
                setattr(asset, name, value)
            columns |= set(record.fields)
        if records:
            Asset.objects.bulk_update([assets[record.name] for record in records], sorted(columns - {"name"}))

    @staticmethod
    def _set_groups(
        records: Sequence[AssetRecord], assets: Mapping[str, Asset], groups: Mapping[str, AssetGroup]
    ) -> None:
        given = [record for record in records if record.groups is not None]
        memberships = Asset.groups.through._default_manager
        memberships.filter(asset__in=[assets[record.name].pk for record in given]).delete()
        memberships.bulk_create(
            Asset.groups.through(asset_id=assets[record.name].pk, assetgroup_id=groups[name].pk)
            for record in given
            for name in record.groups or ()
        )
