"""Import of assets from a file: all of it or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from django.db import IntegrityError, transaction

from executions.asset_credentials import forbidden_credentials, not_allowed
from executions.inventory_files import AssetRecord, FileContent, RowProblem, check_rows
from executions.inventory_writing import (
    NEEDS_CONNECTION,
    Progress,
    change,
    changed_fields,
    create,
    in_batches,
    join_groups,
    leave_groups,
    make_groups,
)
from executions.models import Asset, AssetGroup
from safety import audit
from safety.models import Tenant, User


class ImportRefused(Exception):
    """The file was not imported, not even a part of it: correct the lines listed, then import it again."""

    def __init__(self, problems: Iterable[RowProblem], remarks: Sequence[str] = ()) -> None:
        self.problems = sorted(problems, key=lambda problem: (problem.source, problem.line))
        self.remarks = list(remarks)
        super().__init__(f"{len(self.problems)} problems")


@dataclass(slots=True)
class ImportResult:
    """Names of the assets by what became of them, and of the groups that were made.

    changes  of each asset that was updated, the fields in which it differed
    remarks  what of the file means nothing here and was left out
    """

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    groups_created: list[str] = field(default_factory=list)
    changes: dict[str, list[str]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def import_assets(
    content: FileContent,
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
    `by` None: whoever may run commands of the installation, and so may use every credential.
    Raises ImportRefused with the problems of all rows.
    """
    records, problems = check_rows(content)
    with transaction.atomic():
        # One import at a time. It is no key that changes, so what others write meanwhile need not wait for it.
        Tenant.objects.select_for_update(no_key=True).get(pk=tenant.pk)
        writer = _Writer(tenant, records, update, by)
        try:
            writer.write(progress)  # also when there are problems already: to find those of the other rows
        except IntegrityError:
            message = "An external_id of the file is given twice, or belongs to another asset already."
            raise ImportRefused([*problems, *writer.problems, RowProblem(0, message)]) from None
        problems += writer.problems
        if problems:
            raise ImportRefused(problems, content.remarks)
        done = writer.result
        done.remarks = content.remarks
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

    def __init__(self, tenant: Tenant, records: Sequence[AssetRecord], update: bool, by: User | None) -> None:
        self.tenant = tenant
        self.records = records
        self.update = update
        self.by = by
        self.result = ImportResult()
        self.problems: list[RowProblem] = []

    def write(self, progress: Progress) -> None:
        groups, self.result.groups_created = make_groups(self.tenant, self.records)
        done = 0
        for batch in in_batches(self.records):
            self._write_batch(batch, groups)
            done += len(batch)
            progress(done, len(self.records))

    def _write_batch(self, batch: Sequence[AssetRecord], groups: Mapping[str, AssetGroup]) -> None:
        # Held until the end: nobody gives an asset a credential while its address is compared and changed here.
        held = Asset.objects.select_for_update(no_key=True).order_by("pk")
        found = held.filter(tenant=self.tenant, name__in=[record.name for record in batch])
        assets = {asset.name: asset for asset in found.prefetch_related("groups")}
        new = [record for record in batch if record.name not in assets and self._can_be_made(record)]
        changed = [
            record for record in batch if record.name in assets and self._is_to_change(record, assets[record.name])
        ]
        self._check_credentials([*new, *changed], assets)
        made = create(self.tenant, new)
        self.result.created += [asset.name for asset in made]
        change([(assets[record.name], record.fields) for record in changed])
        assets |= {asset.name: asset for asset in made}
        regrouped = [(assets[record.name], record.groups) for record in [*new, *changed] if record.groups is not None]
        leave_groups([asset for asset, _ in regrouped])
        join_groups(regrouped, groups)

    def _can_be_made(self, record: AssetRecord) -> bool:
        if record.connection:
            return True
        self._refuse(record, NEEDS_CONNECTION)
        return False

    def _is_to_change(self, record: AssetRecord, asset: Asset) -> bool:
        fields = changed_fields(asset, record.fields)
        if record.groups is not None and set(record.groups) != {group.name for group in asset.groups.all()}:
            fields.append("groups")
        if not fields:
            self.result.unchanged.append(asset.name)
            return False
        if not self.update:
            self._refuse(record, f"{record.name!r} exists already and differs. Ask for an update (--update).")
            return False
        self.result.updated.append(asset.name)
        self.result.changes[asset.name] = sorted(fields)
        return True

    def _check_credentials(self, records: Sequence[AssetRecord], assets: Mapping[str, Asset]) -> None:
        if self.by is None:
            return
        edits = [(assets.get(record.name), record.fields) for record in records]
        for record, path in zip(records, forbidden_credentials(self.by, edits), strict=True):
            if path:
                self._refuse(record, not_allowed(path))

    def _refuse(self, record: AssetRecord, message: str) -> None:
        self.problems.append(RowProblem(record.line, message, record.source))
