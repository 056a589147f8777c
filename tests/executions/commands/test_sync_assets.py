"""sync_assets as an operator uses it: what a source owns, what people keep, and what is missing."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models.functions import Now

from executions.clients import AssetService
from executions.inventory_formats import read
from executions.inventory_import import import_assets
from executions.inventory_sync import SERVICE, sync_file
from executions.models import Asset, AssetGroup, AssetSource
from executions.services import asset_syncs
from safety.models import AuditRecord, Tenant
from tests.contract.conftest import settings_of
from tests.contract.fake_services import FakeAssetService, asset
from tests.installations import wait_until

pytestmark = pytest.mark.django_db

CSV = """\
name,hostname,connection,environment,groups
db-1,db-1.example.com,ssh,staging,db
web-1,web-1.example.com,ssh,,
"""
CHANGED = """\
name,hostname,connection,credential,host_key,groups
db-1,db-9,ssh,theirs/db,ssh-rsa B,db;new
web-1,web-1.example.com,ssh,theirs/web,,
"""


@pytest.fixture
def tenant() -> Tenant:
    return Tenant.objects.get(name="default")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "machines.csv"
    path.write_text(CSV)
    return path


def run(*arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = 0
    try:
        call_command("sync_assets", *arguments, stdout=out, stderr=err)
    except SystemExit as ended:
        code = int(ended.code or 0)
    return code, out.getvalue(), err.getvalue()


def sync(path: Path, text: str | None = None, *more: str, expect: int = 0) -> dict[str, Any]:
    if text is not None:
        path.write_text(text)
    code, said, errors = run("--from", str(path), "--source", "cmdb", "--json", *more)
    assert code == expect, said + errors
    told: dict[str, Any] = json.loads(said)
    return told


def one(name: str) -> Asset:
    return Asset.objects.get(name=name, tenant__name="default")


def test_what_the_source_has_is_made_and_is_the_sources(file: Path) -> None:
    told = sync(file)
    assert told["names"]["created"] == ["db-1", "web-1"]
    assert (one("db-1").source, one("db-1").environment) == ("cmdb", "staging")
    assert one("db-1").last_seen_at is not None
    record = AuditRecord.objects.get(action="asset.sync")
    assert (record.data["source"], record.data["created"], record.data["names"]) == (
        "cmdb", 2, {"created": ["db-1", "web-1"]},
    )  # fmt: skip
    again = sync(file)
    assert (again["created"], again["updated"], again["unchanged"]) == (0, 0, 2)
    assert AssetSource.objects.get(name="cmdb").figures["unchanged"] == 2


def test_the_source_changes_what_it_says_and_people_keep_what_they_added(file: Path, tenant: Tenant) -> None:
    sync(file)
    db = one("db-1")
    db.groups.add(AssetGroup.objects.create(tenant=tenant, name="mine"))
    Asset.objects.filter(pk=db.pk).update(credential="ours/db", host_key="ssh-ed25519 AAAA", owner="us")
    told = sync(file, CHANGED)
    assert told["names"]["updated"] == ["db-1", "web-1"]
    db.refresh_from_db()
    assert (db.hostname, db.credential, db.host_key, db.owner) == ("db-9", "ours/db", "ssh-ed25519 AAAA", "us")
    assert sorted(db.groups.values_list("name", flat=True)) == ["db", "mine", "new"]
    assert one("web-1").credential == "theirs/web"  # it had none


def test_what_is_missing_is_marked_and_there_again_when_it_is_back(file: Path) -> None:
    sync(file)
    only_db = CSV.rpartition("web-1,")[0]
    told = sync(file, only_db)
    assert told["names"]["missing"] == ["web-1"]
    assert (one("web-1").is_active, one("web-1").missing_since_at is None) == (True, False)
    assert list(Asset.objects.stale().values_list("name", flat=True)) == ["web-1"]
    since = one("web-1").missing_since_at
    assert sync(file, only_db)["missing"] == 0
    assert one("web-1").missing_since_at == since
    assert sync(file, CSV)["names"]["returned"] == ["web-1"]
    assert one("web-1").missing_since_at is None


def test_taking_out_of_use_is_asked_for_and_asked_again(file: Path) -> None:
    sync(file)
    file.write_text(CSV.rpartition("web-1,")[0])
    with pytest.raises(CommandError, match=r"1 assets would be taken out of use: web-1\. Give --yes"):
        run("--from", str(file), "--source", "cmdb", "--remove-missing")
    assert (one("web-1").is_active, one("web-1").missing_since_at) == (True, None)
    assert sync(file, None, "--remove-missing", "--yes")["names"]["deactivated"] == ["web-1"]
    assert not one("web-1").is_active
    assert sync(file, None, "--remove-missing", "--yes")["deactivated"] == 0


def test_a_dry_run_changes_nothing(file: Path) -> None:
    told = sync(file, None, "--dry-run")
    assert (told["dry_run"], told["created"]) == (True, 2)
    assert not Asset.objects.filter(name="db-1").exists()
    assert not AuditRecord.objects.filter(action="asset.sync").exists()
    assert not AssetSource.objects.exists()


def test_what_others_keep_is_left_alone_and_adopted_only_if_asked(file: Path, tenant: Tenant) -> None:
    import_assets(read(b"name,connection,credential\ndb-1,ssh,a/b\n", "csv"), file_name="by hand", tenant=tenant)
    Asset.objects.create(tenant=tenant, name="web-1", connection="ssh", source="other")
    told = sync(file, expect=3)
    assert [problem.partition(",")[0] for problem in told["problems"]] == [
        "line 2: 'db-1' is kept here by hand", "line 3: 'web-1' belongs to 'other'",
    ]  # fmt: skip
    assert (one("db-1").hostname, one("db-1").source) == ("", "")
    told = sync(file, None, "--adopt", expect=3)
    assert (one("db-1").hostname, one("db-1").source, one("db-1").credential) == ("db-1.example.com", "cmdb", "a/b")
    assert one("web-1").source == "other"


def test_a_bad_line_keeps_no_other_asset_from_being_synced_and_is_not_missing(file: Path) -> None:
    sync(file)
    told = sync(file, CSV.replace("staging", "stagging").replace("web-1.example.com", "web-7"), expect=3)
    assert told["names"]["updated"] == ["web-1"]
    assert told["missing"] == 0
    assert "line 2: environment must be one of" in told["problems"][0]
    told = sync(file, "name,connection\n,ssh\ndb-1,ssh\n", expect=3)
    assert told["missing"] == 0
    assert "none was marked" in told["remarks"][0]


@pytest.mark.parametrize(
    ("text", "says"), [("name,connection\n", "no assets"), ("hostname\nx\n", "needs the column name"), ("", "needs")]
)
def test_a_source_that_cannot_be_understood_changes_nothing(file: Path, text: str, says: str) -> None:
    sync(file)
    file.write_text(text)
    with pytest.raises(CommandError, match=says):
        run("--from", str(file), "--source", "cmdb", "--remove-missing", "--yes")
    assert Asset.objects.filter(source="cmdb", missing_since_at=None, is_active=True).count() == 2


def test_an_asset_with_an_id_of_its_source_may_be_renamed(file: Path) -> None:
    sync(file, "name,connection,external_id\nold,ssh,7\ntaken,ssh,8\n")
    number = one("old").pk
    assert sync(file, "name,connection,external_id\nnew,ssh,7\ntaken,ssh,8\n")["names"]["updated"] == ["new"]
    assert one("new").pk == number
    told = sync(file, "name,connection,external_id\ntaken,ssh,7\nother,ssh,8\n", expect=3)
    assert "another asset has that name" in told["problems"][0]


def test_the_command_refuses_what_it_cannot_mean(file: Path, tmp_path: Path) -> None:
    for arguments, says in (
        (("--from", SERVICE), "set ASSET_SERVICE_URL"),
        (("--from", str(tmp_path / "none.csv")), "cannot be read"),
        (("--from", str(file), "--source", SERVICE), "--source must be a name"),
        (("--from", str(file), "--tenant", "nowhere"), "no tenant 'nowhere'"),
    ):
        with pytest.raises(CommandError, match=says):
            run(*arguments)


@pytest.mark.django_db(transaction=True)
def test_two_syncs_at_once_make_every_asset_once(tenant: Tenant) -> None:
    text = ("name,connection,groups\n" + "".join(f"m-{n},ssh,g\n" for n in range(300))).encode()
    barrier = threading.Barrier(2)

    def work(_number: int) -> tuple[int, int]:
        try:
            barrier.wait(timeout=20)
            done = sync_file(read(text, "csv"), source="cmdb", tenant=tenant)
            return len(done.created), done.unchanged
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(work, range(2))) == [(0, 300), (300, 0)]


# --- the asset service


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[FakeAssetService]:
    server = FakeAssetService(
        asset(1, "db-1", hostname="db-1.example.com", service_type="ssh", environment="production"),
        asset(2, "web-1", ip_address="192.0.2.20", service_type="ssh"),
    )
    server.start()
    client = AssetService(settings_of(server))
    for module in ("executions.management.commands.sync_assets", "executions.services.asset_syncs"):
        monkeypatch.setattr(f"{module}.asset_service", lambda: client)
    yield server
    server.stop()


def test_the_asset_service_is_a_source_like_any_other(service: FakeAssetService) -> None:
    code, said, _ = run("--from", SERVICE)
    assert code == 0
    assert "2 created" in said
    db = one("db-1")
    assert (db.source, db.external_id, db.hostname) == (SERVICE, "1", "db-1.example.com")
    assert db.last_seen_at is not None
    service.assets[:] = [row for row in service.assets if row["name"] == "db-1"]
    code, said, _ = run("--from", SERVICE)
    assert "missing now        web-1" in said
    assert one("web-1").missing_since_at is not None
    service.assets.clear()
    with pytest.raises(CommandError, match="has no assets; nothing was changed"):
        run("--from", SERVICE, "--remove-missing", "--yes")
    assert one("db-1").is_active


def test_what_the_service_would_move_with_its_credential_is_told(service: FakeAssetService, tenant: Tenant) -> None:
    Asset.objects.create(
        tenant=tenant, name="vault", hostname="vault.example.org", connection="ssh", credential="ssh/vault",
        external_id="1",
    )  # fmt: skip
    code, said, problems = run("--from", SERVICE)
    assert (code, "1 created" in said, "1 refused" in said) == (3, True, True)
    assert "vault has the id 1 of the asset service and a credential" in problems
    assert (one("vault").hostname, one("vault").source) == ("vault.example.org", "")


@pytest.mark.django_db(transaction=True)
def test_a_sync_that_is_due_is_done_by_one_worker_of_many(
    service: FakeAssetService, tenant: Tenant, settings: Any
) -> None:
    settings.ASSET_SYNC = timedelta(seconds=60)

    def won(count: int) -> int:
        barrier = threading.Barrier(count)

        def ask(_number: int) -> bool:
            try:
                barrier.wait(timeout=20)
                return asset_syncs.begin_if_due(tenant)
            finally:
                connection.close()

        with ThreadPoolExecutor(count) as threads:
            return sum(threads.map(ask, range(count)))

    assert won(8) == 1
    assert won(2) == 0
    AssetSource.objects.update(begun_at=Now() - timedelta(seconds=61))
    assert won(8) == 1


@pytest.mark.django_db(transaction=True)
def test_a_worker_syncs_by_itself_and_keeps_why_it_could_not(
    service: FakeAssetService, tenant: Tenant, settings: Any
) -> None:
    asset_syncs.AssetSyncs().nudge()  # not wanted
    assert not AssetSource.objects.exists()
    settings.ASSET_SYNC = timedelta(seconds=60)
    asset_syncs.AssetSyncs().nudge()
    wait_until(lambda: Asset.objects.filter(source=SERVICE).count() == 2, what="the sync")
    wait_until(lambda: AssetSource.objects.filter(synced_at__isnull=False).exists(), what="its end")
    service.assets.clear()
    AssetSource.objects.update(begun_at=Now() - timedelta(seconds=61))
    asset_syncs.AssetSyncs().nudge()
    wait_until(lambda: "has no assets" in AssetSource.objects.get().error, what="the reason")
    assert Asset.objects.filter(source=SERVICE, missing_since_at=None).count() == 2
