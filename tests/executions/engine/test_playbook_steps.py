"""Playbooks through a real worker: from a plan to rows, masked on the way."""

from __future__ import annotations

import secrets
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from executions.connectors.ansible import folder
from executions.models import Asset, StepTarget
from safety.models import Tenant
from safety.secrets.keeping import store_secret
from tests.executions.engine.conftest import Workers, assert_nothing_left_behind, ended, printed
from tests.installations import wait_until

pytestmark = [pytest.mark.django_db(transaction=True)]

SECRET = "sw0rdfish-of-the-playbook"


def test_a_playbook_runs_once_for_all_its_targets_and_what_it_says_is_masked(
    workers: Workers, begin: Callable[..., int], tmp_path: Path, settings: Any
) -> None:
    settings.ANSIBLE_PLAYBOOKS = tmp_path
    (tmp_path / "shop.yml").write_text(
        f"- hosts: all\n  gather_facts: false\n  vars: {{ansible_python_interpreter: {sys.executable}}}\n  tasks:\n"
        f"    - {{name: Write, copy: {{content: '{{{{ password }}}}', dest: {tmp_path}/written}}, run_once: true}}\n"
        "    - {name: Count, debug: {msg: '{{ ansible_play_hosts | sort }}'}}\n"
        "    - {name: Say, debug: {msg: 'the password is {{ password }}'}}\n"
        "    - {name: Refuse, fail: {msg: 'no good: {{ password }}'}, when: opsconductor_name == 'second'}\n"
    )
    tenant = Tenant.objects.get(name="default")
    Asset.objects.create(tenant=tenant, name="second", connection="local", environment="development")
    store_secret(tenant, "db/shop", SECRET, by=None)
    inputs = {"playbook": "shop.yml", "extra_vars": {"password": {"type": "secret", "path": "db/shop"}}}
    workers.start(ANSIBLE_PLAYBOOKS=str(tmp_path), WORKER_PROCESSES="1")
    execution = begin({"id": "play", "tool": "ansible-playbook", "targets": ["localhost", "second"], "inputs": inputs})

    assert ended(execution).status == "failed"
    assert (tmp_path / "written").read_text() == SECRET
    said = printed(execution, "play")
    assert said.count('ok: Count\n["localhost", "second"]\n') == 2
    assert said.count("ok: Say\nthe password is [masked]\n") == 2
    assert said.count("changed: Write\n") == 1
    good, bad = StepTarget.objects.filter(execution_id=execution).order_by("name")
    assert (good.status, bad.status) == ("succeeded", "failed")
    assert good.data is not None
    assert (good.exit_code, good.data["skipped"], good.data["failed"]) == (0, 1, 0)
    assert (bad.exit_code, bad.error) == (2, "The task 'Refuse' failed: no good: [masked]")
    assert_nothing_left_behind()

    # The folder of the web process is another than that of the worker, or was changed since: the worker's look counts.
    settings.ANSIBLE_PLAYBOOKS = tmp_path / "of-the-web"
    settings.ANSIBLE_PLAYBOOKS.mkdir()
    (settings.ANSIBLE_PLAYBOOKS / "shop.yml").write_text("- hosts: all\n")
    (tmp_path / "written").unlink()
    step = {"id": "play", "tool": "ansible-playbook", "targets": ["localhost"], "inputs": {"playbook": "shop.yml"}}
    other = begin({**step, "retry": {"max_attempts": 3, "delay_seconds": 0}})

    assert ended(other).status == "failed"
    (target,) = StepTarget.objects.filter(execution_id=other)
    assert (target.status, target.error_code, target.attempt) == ("failed", "files_changed", 1)
    assert "Nothing ran." in target.error
    assert not (tmp_path / "written").exists()


def test_what_a_killed_run_left_in_memory_goes_when_a_worker_starts(workers: Workers) -> None:
    """Also where nobody runs a playbook any more."""
    left = folder.IN_MEMORY / f"{folder.PREFIX}{secrets.token_hex(6)}"
    left.mkdir(mode=0o700)
    (left / "hosts.yml").write_text(SECRET)
    password = folder.IN_MEMORY / f"{left.name}-1"
    password.write_text(SECRET)
    try:
        workers.start(WORKER_PROCESSES="1")
        wait_until(lambda: not left.exists() and not password.exists(), seconds=20, what="the sweep")
    finally:
        password.unlink(missing_ok=True)
        shutil.rmtree(left, ignore_errors=True)
