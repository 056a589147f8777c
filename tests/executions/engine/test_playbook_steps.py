"""Playbooks through a real worker: from a plan to rows, masked on the way."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from executions.models import StepTarget
from safety.models import Tenant
from safety.secrets.keeping import store_secret
from tests.executions.engine.conftest import Workers, assert_nothing_left_behind, ended, printed, step_statuses

pytestmark = [pytest.mark.django_db(transaction=True)]

SECRET = "sw0rdfish-of-the-playbook"


def test_a_playbook_runs_with_its_secret_and_what_it_says_is_masked(
    workers: Workers, begin: Callable[..., int], tmp_path: Path, settings: Any
) -> None:
    settings.ANSIBLE_PLAYBOOKS = tmp_path
    (tmp_path / "shop.yml").write_text(
        f"- hosts: all\n  gather_facts: false\n  vars: {{ansible_python_interpreter: {sys.executable}}}\n  tasks:\n"
        f"    - {{name: Write, copy: {{content: '{{{{ password }}}}', dest: {tmp_path}/written}}}}\n"
        "    - {name: Say, debug: {msg: 'the password is {{ password }}'}}\n"
        "    - {name: Refuse, fail: {msg: 'no good: {{ password }}'}, tags: [broken]}\n"
    )
    store_secret(Tenant.objects.get(name="default"), "db/shop", SECRET, by=None)
    inputs = {"playbook": "shop.yml", "extra_vars": {"password": {"type": "secret", "path": "db/shop"}}}
    workers.start(ANSIBLE_PLAYBOOKS=str(tmp_path), WORKER_PROCESSES="1")
    step = {"tool": "ansible-playbook", "targets": ["localhost"]}
    execution = begin(
        {"id": "good", **step, "inputs": {**inputs, "skip_tags": "broken"}},
        {"id": "bad", **step, "inputs": inputs, "depends_on": ["good"]},
    )

    assert ended(execution).status == "failed"
    assert step_statuses(execution) == {"good": "succeeded", "bad": "failed"}
    assert (tmp_path / "written").read_text() == SECRET
    assert printed(execution, "good") == "changed: Write\nok: Say\nthe password is [masked]\n"
    good, bad = StepTarget.objects.filter(step__execution_id=execution).order_by("step__position")
    assert good.data is not None
    assert (good.exit_code, good.data["changed"], good.data["ok"]) == (0, 1, 2)
    assert (bad.exit_code, bad.error) == (2, "The task 'Refuse' failed: no good: [masked]")
    assert_nothing_left_behind()
