"""Plans in check mode, by a real worker: they look, say what would change, and leave everything as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from executions.models import Execution, ExecutionPlan, OutputChunk, StepTarget
from executions.services import Submission, retry, submit
from safety.models import User
from tests.executions.engine.conftest import Workers, assert_nothing_left_behind, ended, shell, step_statuses

pytestmark = [pytest.mark.django_db(transaction=True)]


def set_key(path: Path, key: str = "b") -> dict[str, Any]:
    inputs = {"action": "set", "path": str(path), "key": key, "value": "2"}
    return {"id": "set", "tool": "config_manager", "inputs": inputs, "targets": ["localhost"]}


def printed(execution_id: int) -> str:
    return "".join(OutputChunk.objects.filter(execution_id=execution_id).order_by("seq").values_list("text", flat=True))


def test_a_check_says_what_would_change_skips_the_rest_and_changes_nothing(
    workers: Workers, requester: User, tmp_path: Path
) -> None:
    config = tmp_path / "app.conf"
    config.write_text("a=1\nb=1\n")
    steps = [shell("prepare", f"touch {tmp_path}/made"), {**set_key(config), "depends_on": ["prepare"]}]
    submitted = submit(Submission({"steps": steps}, check=True), by=requester)
    execution_id = submitted.execution_id
    assert submitted.approval_level == 0
    workers.start(WORKER_PROCESSES="1")

    execution = ended(execution_id)
    assert (execution.status, execution.action_class) == ("succeeded", "read")
    assert execution.status_reason == "Check mode: nothing was changed. Step 'prepare' could not be checked."
    assert step_statuses(execution_id) == {"prepare": "skipped", "set": "succeeded"}
    skipped = StepTarget.objects.get(execution_id=execution_id, step__key="prepare")
    assert (skipped.status, skipped.attempt, skipped.step.error_code) == ("skipped", 0, "not_checked")
    assert skipped.step.error == "The tool shell cannot say what it would change."
    assert "-b=1\n+b=2\n" in printed(execution_id)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app.conf"]
    assert config.read_text() == "a=1\nb=1\n"
    assert getattr(Execution.objects.with_check().get(pk=execution_id), "is_check", None) is True
    assert_nothing_left_behind()


def test_a_check_that_fails_is_a_failure(workers: Workers, requester: User, tmp_path: Path) -> None:
    plan = {"check": True, "steps": [set_key(tmp_path / "no.conf")]}
    execution_id = submit(Submission(plan), by=requester).execution_id
    workers.start(WORKER_PROCESSES="1")
    assert ended(execution_id).status == "failed"
    assert "there is no file" in printed(execution_id)
    assert not ran_for_real(tmp_path)

    (tmp_path / "no.conf").write_text("b=1\n")
    for again in (retry(execution_id, by=requester), retry(execution_id, by=requester, from_start=True)):
        assert ended(again.execution_id).status == "succeeded"
        assert Execution.objects.get(pk=again.execution_id).title == "Check mode: config_manager"
        assert ExecutionPlan.objects.get(pk=again.execution_id).document["check"] is True
        assert (tmp_path / "no.conf").read_text() == "b=1\n"


def ran_for_real(folder: Path) -> bool:
    return any(folder.iterdir())


def test_a_check_that_fails_undoes_nothing(workers: Workers, requester: User, tmp_path: Path) -> None:
    undo = {"tool": "shell", "inputs": {"command": f"touch {tmp_path}/undone"}}
    steps = [
        {**set_key(tmp_path / "a.conf"), "id": "fine", "rollback": undo},
        {**set_key(tmp_path / "no.conf"), "id": "fails", "on_failure": "rollback", "rollback": undo},
    ]
    (tmp_path / "a.conf").write_text("b=1\n")
    execution_id = submit(Submission({"check": True, "steps": steps}), by=requester).execution_id
    workers.start(WORKER_PROCESSES="1")
    assert ended(execution_id).status == "failed"
    assert step_statuses(execution_id) == {"fine": "succeeded", "fails": "failed"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.conf"]
