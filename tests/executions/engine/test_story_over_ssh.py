"""A change on twenty machines over SSH that goes wrong on one: undone there and nowhere else, and told as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from executions.models import Asset, Step, StepTarget
from executions.services import retry
from safety.models import AuditRecord, Tenant, User
from safety.secrets.keeping import store_secret
from tests.executions.engine.conftest import Workers, assert_nothing_left_behind, ended, kinds
from tests.sshd import Sshd

pytestmark = [pytest.mark.django_db(transaction=True)]

MACHINES = [f"web-{number:02d}" for number in range(1, 21)]
BROKEN = "web-07"


@pytest.fixture
def machines(transactional_db: None, sshd: Sshd, tmp_path: Path) -> Path:
    """Twenty machines, each a folder with a `config` that says v1, on one SSH server; returns where the folders are."""
    tenant = Tenant.objects.get(name="default")
    credential = json.dumps({"username": sshd.username, "private_key": sshd.private_key})
    store_secret(tenant, "ssh/story", credential, by=None)
    for name in MACHINES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "config").write_text("v1\n")
        Asset.objects.create(
            tenant=tenant, name=name, hostname=name, environment="development", tags=["story"],
            credential="ssh/story", **sshd.asset_fields(),
        )  # fmt: skip
    (tmp_path / BROKEN / "broken").touch()
    return tmp_path


def story(root: Path) -> list[dict[str, Any]]:
    """Query, look, back up, change, note, check; what changes something says how it is undone."""
    here = f"{root}/{{{{ hostname }}}}"

    def step(key: str, argv: list[str], undo: list[str] | None = None, **fields: Any) -> dict[str, Any]:
        rollback = {"rollback": {"tool": "command", "inputs": {"argv": undo}}} if undo else {}
        return {
            "id": key, "tool": "command", "inputs": {"argv": argv}, "target_hosts": "{{ assets[*].hostname }}",
            "timeout_seconds": 60, **rollback, **fields,
        }  # fmt: skip

    return [
        {"id": "find", "tool": "asset-query", "inputs": {"filters": {"tag": "story"}, "fields": ["hostname", "id"]}},
        step("look", ["cat", f"{here}/config"]),
        step("backup", ["cp", f"{here}/config", f"{here}/config.bak"], ["rm", f"{here}/config.bak"]),
        {
            **step("change", [], ["cp", f"{here}/config.bak", f"{here}/config"]),
            "tool": "copy",
            "inputs": {"path": f"{here}/config", "content": "v2\n"},
        },
        step("note", ["touch", f"{here}/changed"], ["rm", f"{here}/changed"]),
        step("check", ["test", "!", "-e", f"{here}/broken"], on_failure="rollback"),
    ]


def contents(root: Path, name: str) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((root / name).iterdir())}


def test_what_went_wrong_on_one_of_twenty_machines_is_undone_there_alone(
    workers: Workers, begin: Callable[..., int], requester: User, machines: Path
) -> None:
    execution_id = begin(*story(machines))
    workers.start(WORKER_PROCESSES="1", LEASE_SECONDS="30")  # twenty handshakes at once on a busy machine
    execution = ended(execution_id, seconds=150)

    assert execution.status == "failed", execution.status_reason
    for word in ("'check'", BROKEN, "note", "change", "backup"):
        assert word in execution.status_reason, execution.status_reason
    assert contents(machines, BROKEN) == {"broken": "", "config": "v1\n"}
    for name in MACHINES:
        if name != BROKEN:
            assert contents(machines, name) == {"changed": "", "config": "v2\n", "config.bak": "v1\n"}
    undone = Step.objects.filter(execution_id=execution_id, kind="rollback").order_by("position")
    assert [step.key for step in undone] == ["note", "change", "backup"]
    targets = StepTarget.objects.filter(step__in=undone)
    assert list(targets.values_list("name", "status", "exit_code")) == [(BROKEN, "succeeded", 0)] * 3
    assert "rollback.started" in kinds(execution_id)
    uses = AuditRecord.objects.filter(action="secret.use", object_id="ssh/story")
    assert set(uses.values_list("data__purpose", flat=True)) == {"credential"}
    assert_nothing_left_behind()

    (machines / BROKEN / "broken").unlink()
    again = retry(execution_id, by=requester, reason="mended")
    assert ended(again.execution_id, seconds=90).status == "succeeded"
    assert contents(machines, BROKEN) == {"changed": "", "config": "v2\n", "config.bak": "v1\n"}
    touched = StepTarget.objects.filter(execution_id=again.execution_id, attempt__gt=0).exclude(name="")
    assert {name for name in touched.values_list("name", flat=True) if name != BROKEN} <= set(MACHINES)
    assert set(touched.exclude(step__key="check").values_list("name", flat=True)) == {BROKEN}
