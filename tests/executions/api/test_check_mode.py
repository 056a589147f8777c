"""Check mode through the API: asked for in the body or in the plan, shown wherever the execution is."""

from __future__ import annotations

from typing import Any

import pytest

from executions.models import Execution
from queueing.models import QueueEntry
from tests.executions.api.conftest import Api

pytestmark = pytest.mark.django_db

RESTART: dict[str, Any] = {
    "title": "Restart nginx",
    "steps": [
        {"id": "restart", "tool": "systemctl", "inputs": {"action": "restart", "service": "nginx"},
         "targets": ["localhost"]},
        {"id": "tell", "tool": "shell", "inputs": {"command": "echo done"}, "targets": ["localhost"]},
    ],
}  # fmt: skip


@pytest.mark.parametrize("body", [{"plan": RESTART, "check": True}, {"plan": {**RESTART, "check": True}}])
def test_a_check_asks_for_no_more_than_reading(admin: Api, body: dict[str, Any]) -> None:
    accepted = admin.post("executions/", body)
    assert accepted.status_code == 202
    kept = Execution.objects.get(pk=accepted.json()["id"])
    assert (kept.action_class, kept.approval_level) == ("read", 0)
    assert kept.title == "Check mode: Restart nginx"
    state = admin.get(f"executions/{kept.pk}/").json()
    assert state["check"] is True
    assert QueueEntry.objects.filter(pk=kept.pk).exists()


def test_a_check_is_another_request_than_the_change_itself(admin: Api) -> None:
    real = admin.post("executions/", {"plan": RESTART}).json()
    check = admin.post("executions/", {"plan": RESTART, "check": True})
    assert check.status_code == 202
    assert check.json()["id"] != real["id"]
    assert admin.get(f"executions/{real['id']}/").json()["check"] is False


def test_a_preview_says_what_a_check_would_leave_out(admin: Api) -> None:
    preview = admin.post("executions/preview/", {"plan": RESTART, "check": True}).json()
    assert (preview["acceptable"], preview["check"], preview["action_class"]) == (True, True, "read")
    assert [lock["mode"] for lock in preview["locks"]] == ["shared"]
    assert [bool(step["unchecked"]) for step in preview["steps"]] == [False, True]
    assert admin.post("executions/preview/", {"plan": RESTART}).json()["check"] is False


def test_a_batch_takes_it_for_each(admin: Api) -> None:
    items = [{"plan": RESTART, "check": True}, {"plan": RESTART}]
    results = admin.post("executions/batch/", {"executions": items}).json()["results"]
    classes = [Execution.objects.get(pk=result["id"]).action_class for result in results]
    assert classes == ["read", "modify"]


def test_what_is_not_true_or_false_is_refused(admin: Api) -> None:
    response = admin.post("executions/", {"plan": RESTART, "check": "yes"})
    assert response.status_code == 422
    assert [error["path"] for error in response.json()["errors"]] == ["check"]
    assert not Execution.objects.exists()


def test_the_catalog_says_which_tools_can_be_checked(admin: Api) -> None:
    tools = {tool["name"]: tool for tool in admin.get("tools/").json()["results"]}
    assert tools["systemctl"]["check_mode"] == "yes"
    assert tools["http"]["check_mode"] == "some"
    assert tools["shell"]["check_mode"] == "no"
    assert tools["http"]["actions"]["GET"]["check_mode"] is True
    assert tools["http"]["actions"]["POST"]["check_mode"] is False
    assert tools["shell"]["source"] is None
