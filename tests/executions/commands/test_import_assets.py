"""import_assets as an operator uses it: all of a file or nothing of it."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from executions.inventory_files import COLUMNS
from executions.inventory_formats import read
from executions.inventory_import import ImportRefused, ImportResult, import_assets
from executions.models import Asset, AssetGroup
from safety.models import Tenant

pytestmark = pytest.mark.django_db

GOOD = """\
name,hostname,ip_address,environment,connection,port,credential,tags,groups
db-1,db-1.example.com,192.0.2.10,Production,ssh,22,db/orders/login,postgres; linux,databases
web-1,web-1.example.com,2001:DB8::20,staging,ssh,,,nginx,"web servers;front"
"""


@pytest.fixture
def tenant() -> Tenant:
    return Tenant.objects.create(name="acme")


def load(tenant: Tenant, text: str | bytes, **options: Any) -> ImportResult:
    content = text.encode() if isinstance(text, str) else text
    return import_assets(read(content, "csv"), file_name="machines.csv", tenant=tenant, **options)


def problems_of(tenant: Tenant, text: str | bytes, **options: Any) -> list[str]:
    with pytest.raises(ImportRefused) as refused:
        load(tenant, text, **options)
    return [str(problem) for problem in refused.value.problems]


def run(file: Path, *arguments: str) -> str:
    out = io.StringIO()
    call_command("import_assets", str(file), *arguments, stdout=out)
    return out.getvalue()


def test_every_column_is_imported(tenant: Tenant) -> None:
    values = {
        "name": "m", "hostname": "m.example.com", "ip_address": "192.0.2.1", "description": "a, \"quoted\"\nline",
        "connection": "powershell", "port": "5986", "username": "svc", "domain": "corp", "credential": "a/b.c",
        "host_key": "ssh-ed25519 AAAA", "device_type": "server", "os_type": "windows", "os_version": "2022",
        "status": "maintenance", "environment": "test", "criticality": "high", "service_type": "winrm",
        "is_secure": "yes", "credential_type": "username_password", "secondary_service_type": "ssh",
        "secondary_port": "22", "owner": "me", "support_contact": "you", "is_active": "no", "external_id": "7",
        "tags": "a;b", "groups": "g;h",
    }  # fmt: skip
    assert tuple(values) == COLUMNS
    cells = ",".join('"' + value.replace('"', '""') + '"' for value in values.values())
    load(tenant, f"{','.join(values)}\n{cells}\n")
    asset = Asset.objects.get(tenant=tenant)
    typed = {**values, "port": 5986, "is_active": False, "tags": ["a", "b"], "is_secure": True, "secondary_port": 22}
    del typed["groups"]
    assert {column: getattr(asset, column) for column in typed} == typed
    assert sorted(asset.groups.values_list("name", flat=True)) == ["g", "h"]


def test_an_import_creates_then_finds_nothing_to_change(tenant: Tenant) -> None:
    first = load(tenant, GOOD)
    assert (first.created, first.updated, first.unchanged) == (["db-1", "web-1"], [], [])
    assert first.groups_created == ["databases", "front", "web servers"]
    again = load(tenant, GOOD)
    assert (again.created, again.updated, again.unchanged) == ([], [], ["db-1", "web-1"])
    assert again.groups_created == []
    assert Asset.objects.get(tenant=tenant, name="web-1").ip_address == "2001:db8::20"
    assert Asset.objects.get(tenant=tenant, name="db-1").environment == "production"


def test_an_asset_that_differs_is_a_problem_unless_updates_are_wanted(tenant: Tenant) -> None:
    load(tenant, GOOD)
    changed = GOOD.replace("web-1.example.com", "web-9.example.com").replace("servers;front", "servers;back")
    assert problems_of(tenant, changed) == ["line 3: 'web-1' exists already and differs. Ask for an update (--update)."]
    result = load(tenant, changed, update=True)
    assert (result.created, result.updated, result.unchanged) == ([], ["web-1"], ["db-1"])
    web = Asset.objects.get(tenant=tenant, name="web-1")
    assert web.hostname == "web-9.example.com"
    assert sorted(web.groups.values_list("name", flat=True)) == ["back", "web servers"]
    assert web.updated_at > web.created_at


def test_what_a_file_does_not_say_stays_as_it_is(tenant: Tenant) -> None:
    load(tenant, GOOD)
    load(tenant, "name,port,service_type,tags,groups\nweb-1,8080,https,,\n", update=True)
    web = Asset.objects.get(tenant=tenant, name="web-1")
    assert (web.port, web.service_type) == (8080, "https")
    assert (web.connection, web.tags, web.environment) == ("ssh", ["nginx"], "staging")
    assert web.groups.count() == 2


@pytest.mark.parametrize(
    ("service", "connection"), [("ssh", "ssh"), ("WinRM", "powershell"), ("http", "api"), ("https", "api")]
)
def test_the_service_of_a_new_asset_implies_its_connection(tenant: Tenant, service: str, connection: str) -> None:
    load(tenant, f"name,service_type\nm,{service}\n")
    assert Asset.objects.get(tenant=tenant).connection == connection


def test_all_bad_rows_are_told_at_once_by_line_and_nothing_is_imported(tenant: Tenant) -> None:
    load(tenant, "name,connection,groups\nold,ssh,g\n")
    text = (
        "name,ip_address,environment,connection,port,credential,is_active,os_type,groups\n"
        "good,192.0.2.1,test,ssh,22,,,,new group\n"
        "a,192.0.2,prodution,telnet,99999,../x,perhaps,amiga,\n"
        ",,,,,,,,\n"
        ",192.0.2.2,,ssh,,,,,\n"
        "good,,,ssh,,,,,\n"
        '"two\nlines",,,,,,,,\n'
        "short,\n"
        "old,192.0.2.3,,,,,,,\n"
        f"{'x' * 256},,,ssh,,,,,\n"
    )
    problems = problems_of(tenant, text)
    assert [problem.split(":")[0] for problem in problems] == (
        ["line 3"] * 7 + ["line 5", "line 6", "line 7", "line 9", "line 10", "line 11"]
    )
    about_line_3 = " ".join(problems[:7])
    for word in ("prodution", "telnet", "99999", "credential must be", "perhaps", "amiga", "ip_address: "):
        assert word in about_line_3
    assert "'good' is there already, in line 2" in problems[8]
    assert "needs a connection" in problems[9]
    assert "2 cells; the header has 9" in problems[10]
    assert "exists already and differs" in problems[11]
    assert "at most 255 characters" in problems[12]
    assert list(Asset.objects.filter(tenant=tenant).values_list("name", flat=True)) == ["old"]
    assert list(AssetGroup.objects.filter(tenant=tenant).values_list("name", flat=True)) == ["g"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "needs the column name"),
        (b"name,connection\n", "no assets"),
        (b"hostname\nm\n", "needs the column name"),
        (b"name,name,connection\na,b,ssh\n", "'name' is there twice"),
        (b"name,colour\na,red\n", "'colour' is not known; the columns are name, "),
        (b"name,connection,password\na,ssh,hunter2\n", "'password' would bring in a secret"),
        (b"name,connection\n\xff,ssh\n", "line 2: This is not UTF-8"),
        (b"name,connection\na\x00,ssh\n", "line 2: There is a NUL"),
        (b'name,connection\n"a,ssh\n', "This is not CSV"),
    ],
)
def test_a_file_that_is_no_list_of_assets_is_refused(tenant: Tenant, content: bytes, says: str) -> None:
    problems = problems_of(tenant, content)
    assert any(says in problem for problem in problems), problems
    assert "hunter2" not in " ".join(problems)
    assert not Asset.objects.filter(tenant=tenant).exists()


def test_a_value_given_in_place_of_a_secrets_path_is_not_repeated(tenant: Tenant) -> None:
    problems = problems_of(tenant, "name,connection,credential\na,ssh,pa$$ word\n")
    assert "pa$$ word" not in " ".join(problems)


def test_a_file_of_a_spreadsheet_with_a_byte_order_mark_and_windows_line_ends_is_read(tenant: Tenant) -> None:
    load(tenant, b"\xef\xbb\xbfname, connection\r\nm\xc3\xbcnchen, ssh\r\n\r\n")
    assert Asset.objects.get(tenant=tenant).name == "münchen"


def test_an_id_of_the_asset_service_that_another_asset_has_is_refused(tenant: Tenant) -> None:
    load(tenant, "name,connection,external_id\na,ssh,7\n")
    assert "belongs to another asset" in problems_of(tenant, "name,connection,external_id\nb,ssh,7\n")[0]


def test_tenants_may_have_assets_and_groups_of_the_same_name(tenant: Tenant) -> None:
    load(tenant, GOOD)
    other = Tenant.objects.create(name="other")
    assert load(other, GOOD).created == ["db-1", "web-1"]
    assert Asset.objects.get(tenant=other, name="db-1").groups.get().tenant == other


def test_thousands_of_rows_are_imported_in_a_few_statements(tenant: Tenant) -> None:
    rows = "".join(f"m-{n},ssh,t;u,g{n % 3}\n" for n in range(2500))
    seen: list[tuple[int, int]] = []
    result = load(
        tenant, f"name,connection,tags,groups\n{rows}", progress=lambda done, total: seen.append((done, total))
    )
    assert len(result.created) == 2500
    assert seen == [(1000, 2500), (2000, 2500), (2500, 2500)]
    assert AssetGroup.objects.get(tenant=tenant, name="g0").assets.count() == 834


@pytest.mark.django_db(transaction=True)
def test_two_imports_at_once_make_every_asset_once() -> None:
    tenant = Tenant.objects.create(name="acme")
    text = "name,connection,groups\n" + "".join(f"m-{n},ssh,g\n" for n in range(300))
    barrier = threading.Barrier(2)

    def work(_number: int) -> ImportResult:
        try:
            barrier.wait(timeout=20)
            return load(tenant, text)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(work, range(2)))
    assert sorted((len(result.created), len(result.unchanged)) for result in results) == [(0, 300), (300, 0)]
    assert Asset.objects.filter(tenant=tenant).count() == 300


# --- the command


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "machines.csv"
    path.write_text(GOOD)
    return path


def test_the_command_says_how_many_and_a_dry_run_changes_nothing(tenant: Tenant, file: Path) -> None:
    said = run(file, "--tenant", "acme", "--dry-run")
    assert said.splitlines()[0] == "Would be: 2 created, 0 updated, 0 unchanged."
    assert not Asset.objects.filter(tenant=tenant).exists()
    assert not AssetGroup.objects.filter(tenant=tenant).exists()
    assert run(file, "--tenant", "acme") == (
        "2 created, 0 updated, 0 unchanged.\nNew groups: databases, front, web servers.\n"
    )
    assert run(file, "--tenant", "acme", "--update") == "0 created, 0 updated, 2 unchanged.\n"


def test_the_command_refuses_with_the_lines(tenant: Tenant, file: Path) -> None:
    file.write_text("name,connection\na,telnet\nb,ssh\n")
    with pytest.raises(CommandError, match=r"(?s)Nothing was imported.*\n  line 2: connection must be one of"):
        run(file, "--tenant", "acme")


def test_the_command_refuses_what_it_cannot_find(tenant: Tenant, file: Path, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"none\.csv cannot be read: No such file"):
        run(tmp_path / "none.csv")
    with pytest.raises(CommandError, match="no tenant 'nowhere'; there are acme, default"):
        run(file, "--tenant", "nowhere")
    file.rename(tmp_path / "machines.ods")
    with pytest.raises(CommandError, match=r"A file named \*\.csv, .* is needed"):
        run(tmp_path / "machines.ods")


def test_the_example_of_the_help_can_be_imported(
    tenant: Tenant, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        call_command("import_assets", "--help")
    shown = capsys.readouterr().out
    lines = shown[shown.index("machines.csv:\n") :].splitlines()[1:4]
    file = tmp_path / "machines.csv"
    file.write_text("\n".join(line.strip() for line in lines))
    assert run(file, "--tenant", "acme").startswith("2 created")
