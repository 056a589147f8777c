"""The files that a plan takes in are part of what is submitted, shown and approved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from executions.connectors.ansible import contents
from executions.models import Approval, Execution
from executions.services import Refused, Submission, approve, preview, reject, submit
from safety.models import User
from tests.executions.services.requests import ask, make_asset, make_user, plan, status_of

pytestmark = [pytest.mark.django_db]

STEP: dict[str, Any] = {
    "id": "play",
    "tool": "ansible-playbook",
    "inputs": {"playbook": "web/deploy.yml"},
    "targets": ["web1"],
}


@pytest.fixture(autouse=True)
def folder(settings: Any, tmp_path: Path) -> Path:
    folder = tmp_path / "playbooks"
    (folder / "web").mkdir(parents=True)
    (folder / "roles").mkdir()
    (folder / "web/deploy.yml").write_text("- hosts: all\n  vars: {password: hunter2hunter2}\n")
    (folder / "roles/tasks.yml").write_text("- debug:\n")
    settings.ANSIBLE_PLAYBOOKS = folder
    make_asset("web1")
    return folder


@pytest.fixture
def approver(db: None) -> User:
    return make_user("approver", "approver")


def hash_of(execution_id: int) -> str:
    return Execution.objects.get(pk=execution_id).plan_hash


def test_the_same_words_with_another_role_are_another_plan(alice: User, folder: Path) -> None:
    first = ask(alice, STEP)
    assert ask(alice, STEP).execution_id == first.execution_id
    (folder / "roles/tasks.yml").write_text("- raw: reboot\n")
    second = ask(alice, STEP)

    assert second.execution_id != first.execution_id, "who submits it anew does not get the one that can not run"
    assert hash_of(second.execution_id) != hash_of(first.execution_id)


def test_who_asks_again_with_its_key_gets_its_execution_whatever_has_changed_since(alice: User, folder: Path) -> None:
    first = ask(alice, STEP, idempotency_key="mine")
    (folder / "roles/tasks.yml").write_text("- raw: reboot\n")
    assert ask(alice, STEP, idempotency_key="mine").execution_id == first.execution_id


def test_a_rollback_is_bound_as_a_step_is(alice: User, folder: Path) -> None:
    undo = {"tool": "ansible-playbook", "inputs": {"playbook": "web/deploy.yml", "tags": ["undo"]}}
    step = {"id": "a", "tool": "shell", "inputs": {"command": "true"}, "targets": ["web1"], "rollback": undo}
    first = ask(alice, step)
    stored = Execution.objects.get(pk=first.execution_id).plan.document["steps"][0]
    assert "files" not in stored
    assert stored["rollback"]["files"]["count"] == 2
    (folder / "web/deploy.yml").write_text("- hosts: none\n")
    assert hash_of(ask(alice, step).execution_id) != hash_of(first.execution_id)


def test_what_is_not_there_any_more_as_it_was_shown_is_not_approved(alice: User, approver: User, folder: Path) -> None:
    one = ask(alice, STEP).execution_id
    before = (folder / "roles/tasks.yml").read_text()
    (folder / "roles/tasks.yml").write_text("- raw: reboot\n")
    with pytest.raises(Refused) as refusal:
        approve(one, by=approver)

    assert (refusal.value.code, refusal.value.status) == ("files_changed", 409)
    assert "Other than then: roles." in refusal.value.message
    assert "submitted again" in refusal.value.how_to_fix
    assert (status_of(one), Approval.objects.count()) == ("pending_approval", 0)
    (folder / "roles/tasks.yml").write_text(before)
    assert approve(one, by=approver) == "queued", "what was shown is there again"


def test_to_refuse_what_has_changed_is_always_possible(alice: User, approver: User, folder: Path) -> None:
    one = ask(alice, STEP).execution_id
    (folder / "web/deploy.yml").unlink()
    assert reject(one, by=approver, comment="look again") == "rejected"


def test_the_preview_says_what_the_submit_will_bind(alice: User, folder: Path) -> None:
    told = preview(plan(STEP), by=alice)
    accepted = submit(Submission(plan(STEP)), by=alice)
    stored = Execution.objects.get(pk=accepted.execution_id).plan.document["steps"][0]["files"]

    assert told["steps"][0]["files"] == stored
    assert (stored["count"], set(stored["parts"])) == (2, {"web", "roles"})
    assert told["plan_hash"] == hash_of(accepted.execution_id)


def test_a_folder_that_cannot_be_bound_refuses_the_plan(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "MOST_FILES", 1)
    with pytest.raises(Refused) as refusal:
        ask(alice, STEP)
    (error,) = refusal.value.errors
    assert (error["code"], error["path"]) == ("invalid_input", "steps[0].inputs.playbook")
    assert "Large files belong elsewhere" in error["how_to_fix"]


def test_who_decides_reads_the_files_and_sees_whether_they_are_those(
    alice: User, approver: User, folder: Path, client: Client
) -> None:
    one = ask(alice, STEP).execution_id
    client.force_login(approver)
    card = client.get("/approvals/").content.decode()
    assert f'<a href="/executions/{one}/files/?file=web%2Fdeploy.yml">Read web/deploy.yml</a>' in card
    page = client.get(f"/executions/{one}/files/").content.decode()
    assert "These are the files that the plan is bound to" in page
    assert "- hosts: all" in page
    assert "hunter2" not in page
    assert "- debug:" in client.get(f"/executions/{one}/files/?file=roles/tasks.yml").content.decode()
    (folder / "roles/tasks.yml").write_text("- raw: <b>reboot</b>\n")
    page = client.get(f"/executions/{one}/files/?file=roles/tasks.yml").content.decode()
    assert "These are not the files that the plan is bound to" in page
    assert "&lt;b&gt;reboot" in page
    assert "its playbooks have changed since" in client.get("/approvals/").content.decode()


def test_the_page_of_approvals_looks_at_the_folder_once(
    alice: User, approver: User, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        ask(alice, {**STEP, "inputs": {**STEP["inputs"], "extra_vars": {"number": number}}})
    looks: list[Path] = []
    really = contents.entries_of

    def counted(folder: Path) -> Iterator[contents.Entry]:
        looks.append(folder)
        return really(folder)

    monkeypatch.setattr(contents, "entries_of", counted)
    client.force_login(approver)
    assert client.get("/approvals/").content.decode().count("Read web/deploy.yml") == 3
    assert len(looks) == 1


def test_nothing_but_the_folder_is_read_and_not_by_everybody(
    alice: User, folder: Path, client: Client, tmp_path: Path
) -> None:
    (tmp_path / "outside.yml").write_text("out of the folder")
    (folder / "link.yml").symlink_to(tmp_path / "outside.yml")
    one = ask(alice, STEP).execution_id
    client.force_login(alice)
    for name in ("../outside.yml", "/etc/passwd", str(tmp_path / "outside.yml"), "link.yml", "web"):
        page = client.get(f"/executions/{one}/files/", {"file": name})
        assert page.status_code == 200
        assert "out of the folder<" not in page.content.decode().replace("\n", "<")
        assert "root:" not in page.content.decode()
    assert "leads out of the folder" in client.get(f"/executions/{one}/files/?file=link.yml").content.decode()
    client.force_login(make_user("watcher", "viewer"))
    assert client.get(f"/executions/{one}/files/").status_code == 403
    assert "/files/" not in client.get(f"/executions/{one}/").content.decode()
