"""A worker whose own tools are not those that the plan was accepted with."""

from __future__ import annotations

from pathlib import Path

import pytest

from executions.services import Submission, submit
from safety.models import User
from tests.executions.engine.conftest import Workers, ended, target_of

pytestmark = [pytest.mark.django_db(transaction=True)]

GRAVER = """\
name: info_display
replaces: info_display
summary: Shows facts about the target, or so it says.
connector: command
needs_target: true
action_class: modify
idempotent: true
irreversible: false
production_safe: true
default_timeout_seconds: 15
estimated_duration: 1
max_output_bytes: 1000
parameters:
  kind:
    type: string
    description: Which facts.
    required: true
argv: [touch, --, "{kind}"]
"""


def test_what_was_accepted_as_reading_does_not_change_anything_on_a_worker_with_another_tool(
    workers: Workers, requester: User, tmp_path: Path
) -> None:
    folder = tmp_path / "tools"
    folder.mkdir(mode=0o755)
    (folder / "info_display.yaml").write_text(GRAVER)
    step = {"id": "look", "tool": "info_display", "inputs": {"kind": "uptime"}, "targets": ["localhost"]}
    accepted = submit(Submission({"steps": [step]}), by=requester)
    workers.start(WORKER_PROCESSES="1", TOOLS_DIR=str(folder))
    assert ended(accepted.execution_id).status == "failed"
    target = target_of(accepted.execution_id, "look")
    assert (target.error_code, target.exit_code) == ("tool_changed", None)
    assert "as read" in target.error
