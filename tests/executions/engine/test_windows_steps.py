"""Steps on Windows machines through real workers, from the plan to the record, with a fake WinRM service over HTTPS."""

from __future__ import annotations

import base64
import json
import ssl
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from executions.models import Asset
from executions.services import cancel
from safety.models import Tenant, User
from safety.secrets.keeping import store_secret
from tests.executions.connectors.windows.conftest import PASSWORD, basic
from tests.executions.connectors.windows.fake_winrm import FakeWinRM
from tests.executions.engine.conftest import (
    Workers,
    assert_nothing_left_behind,
    ended,
    printed,
    status_of,
    step_statuses,
    target_of,
)
from tests.installations import wait_until

pytestmark = [pytest.mark.django_db(transaction=True)]

Begin = Callable[..., int]
ECHO = "import json, sys; print(json.dumps(sys.argv[1:]))"
HOSTILE = ['a"b', "%PATH%", "& del x", "grün", "", "\\"]


@pytest.fixture
def windows(tmp_path: Path) -> Iterator[FakeWinRM]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    server = FakeWinRM(context, basic)
    yield server
    server.close()


@pytest.fixture
def begun(workers: Workers, windows: FakeWinRM, tmp_path: Path, begin: Begin) -> Begin:
    """Workers that reach the asset win-1."""
    tenant = Tenant.objects.get(name="default")
    store_secret(tenant, "windows/ops", json.dumps({"username": "ops", "password": PASSWORD}), by=None)
    Asset.objects.create(
        tenant=tenant,
        name="win-1",
        hostname="localhost",
        port=windows.port,
        connection="powershell",
        os_type="windows",
        environment="development",
        credential="windows/ops",
    )
    workers.start(WORKER_PROCESSES="1", WINRM_CA_BUNDLE=str(tmp_path / "ca.pem"), WINRM_AUTH="basic")
    return begin


def step(key: str, tool: str, inputs: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"id": key, "tool": tool, "inputs": inputs, "targets": ["win-1"], **fields}


def test_scripts_programs_and_tools_run_there_and_are_recorded_as_they_were(begun: Begin, windows: FakeWinRM) -> None:
    store_secret(Tenant.objects.get(name="default"), "app/token", "sw0rdfish-of-the-test", by=None)
    secret = {"type": "secret", "path": "app/token"}
    execution = begun(
        step("script", "powershell", {"script": 'echo "$NOTE"; cat', "stdin": secret, "environment": {"NOTE": "n"}}),
        step("program", "command", {"argv": [sys.executable, "-c", ECHO, *HOSTILE]}),
        step("service", "systemctl", {"action": "status", "service": "W32Time"}),
        step("fails", "Invoke-Command", {"command": "echo no >&2; exit 9"}),
    )
    assert ended(execution).status == "failed"
    assert step_statuses(execution) == {
        "script": "succeeded",
        "program": "succeeded",
        "service": "succeeded",
        "fails": "failed",
    }
    assert printed(execution, "script") == "n\n[masked]"
    assert json.loads(printed(execution, "program")) == HOSTILE
    assert json.loads(printed(execution, "service"))["inputs"] == {"action": "status", "service": "W32Time"}
    failed = target_of(execution, "fails")
    assert (failed.exit_code, failed.error_code, printed(execution, "fails", "stderr")) == (9, "exit_code", "no\n")
    for action, body in windows.seen:
        if action != "Send":
            assert b"sw0rdfish" not in body
            assert base64.b64encode(b"sw0rdfish-of-the-test").rstrip(b"=") not in body
    assert windows.shells == {}
    assert_nothing_left_behind()


def test_a_cancel_reaches_the_machine_and_is_confirmed(begun: Begin, windows: FakeWinRM, requester: User) -> None:
    execution = begun(step("long", "powershell", {"script": "echo begun; exec sleep 600"}))
    wait_until(lambda: printed(execution, "long") == "begun\n", what="the beginning of the script")
    cancel(execution, by=requester, reason="wrong machine")
    assert ended(execution).status == "cancelled"
    assert target_of(execution, "long").stop_confirmed is True
    assert windows.shells == {}


def test_a_path_that_does_not_fit_is_refused_also_when_a_step_brings_it(begun: Begin, windows: FakeWinRM) -> None:
    execution = begun(
        step("where", "powershell", {"script": "printf /etc/passwd"}),
        step("read", "file_manager", {"action": "read", "path": "{{ steps.where.stdout }}"}, depends_on=["where"]),
    )
    assert ended(execution).status == "failed"
    refused = target_of(execution, "read")
    assert (refused.error_code, refused.exit_code) == ("invalid_input", None)
    assert "no path of Windows" in refused.error
    assert windows.actions().count("Create") == 1


def test_a_machine_that_refuses_the_password_fails_once_and_says_so(begun: Begin, windows: FakeWinRM) -> None:
    tenant = Tenant.objects.get(name="default")
    store_secret(tenant, "windows/ops", json.dumps({"username": "ops", "password": "changed"}), by=None)
    execution = begun(step("one", "powershell", {"script": "true"}))
    assert ended(execution).status == "failed"
    target = target_of(execution, "one")
    assert target.error_code == "authentication_failed"
    assert status_of(execution) == "failed"
