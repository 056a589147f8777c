"""Cancel, approve, reject, retry, resolve: the doors. What they do is tested with the services."""

from __future__ import annotations

import time

import pytest

from executions.models import Asset, Execution
from queueing.models import DeadLetter
from tests.executions.api.conftest import Api, MakeApi, plan, problem_of
from tests.executions.live.rows import make_execution

pytestmark = pytest.mark.django_db


@pytest.fixture
def waiting(admin: Api) -> int:
    """An execution of the admin's that waits for an approval: it changes a machine in production."""
    Asset.objects.filter(name="localhost").update(environment="production")
    accepted = admin.post("executions/", {"plan": plan("systemctl restart nginx")}).json()
    assert accepted["status"] == "pending_approval"
    assert accepted["approval_level"] > 0
    return int(accepted["id"])


def test_a_submit_that_would_wait_for_a_person_is_answered_at_once(admin: Api) -> None:
    Asset.objects.filter(name="localhost").update(environment="production")
    began = time.monotonic()
    response = admin.post("executions/", {"plan": plan("systemctl restart nginx")}, Prefer="wait=20")
    assert (response.status_code, response.json()["status"]) == (202, "pending_approval")
    assert time.monotonic() - began < 10


def test_a_waiting_execution_is_cancelled_at_once(admin: Api) -> None:
    accepted = admin.post("executions/", {"plan": plan()}).json()

    told = admin.post(f"executions/{accepted['id']}/cancel/", {"reason": "wrong machine"}).json()

    assert (told["id"], told["status"]) == (accepted["id"], "cancelled")
    detail = admin.get(f"executions/{accepted['id']}/").json()
    assert detail["status_reason"] == "wrong machine"
    assert {step["status"] for step in detail["steps"]} == {"skipped"}
    problem_of(admin.post(f"executions/{accepted['id']}/cancel/", {}), 409, "already_final")


def test_somebody_elses_execution_is_cancelled_by_operators_alone(admin: Api, make_api: MakeApi) -> None:
    execution = make_execution(admin.user, status="needs_attention")

    problem_of(make_api("bob", "requester").post(f"executions/{execution.pk}/cancel/", {}), 403, "forbidden")
    assert make_api("olga", "operator").post(f"executions/{execution.pk}/cancel/", {}).status_code == 200


def test_nobody_approves_what_they_asked_for(admin: Api, waiting: int) -> None:
    problem_of(admin.post(f"executions/{waiting}/approve/", {"comment": "fine"}), 403, "self_approval")


def test_an_approver_lets_it_run(admin: Api, make_api: MakeApi, waiting: int) -> None:
    approver = make_api("anna", "approver")

    told = approver.post(f"executions/{waiting}/approve/", {"comment": "looked at it"}).json()

    assert told["status"] == "queued"
    detail = admin.get(f"executions/{waiting}/").json()
    assert detail["approvals"][0] | {"decided_at": ""} == {
        "by": "anna", "step": None, "wave": None, "approved": True, "comment": "looked at it", "decided_at": "",
        "withdrawn_at": None, "withdrawn_reason": None,
    }  # fmt: skip
    problem_of(approver.post(f"executions/{waiting}/approve/", {}), 409, "not_waiting_for_approval")


def test_an_approver_refuses_it(admin: Api, make_api: MakeApi, waiting: int) -> None:
    told = make_api("anna", "approver").post(f"executions/{waiting}/reject/", {"reason": "not now"}).json()

    assert told["status"] == "rejected"
    assert admin.get(f"executions/{waiting}/").json()["final"] is True


def test_a_viewer_decides_nothing(make_api: MakeApi, waiting: int) -> None:
    problem_of(make_api("vera", "viewer").post(f"executions/{waiting}/approve/", {}), 403, "forbidden")


def test_only_what_has_ended_is_retried(admin: Api) -> None:
    accepted = admin.post("executions/", {"plan": plan()}).json()

    problem_of(admin.post(f"executions/{accepted['id']}/retry/", {}), 409, "not_final")


@pytest.fixture
def unknown(admin: Api) -> Execution:
    """An execution whose step was in flight when its worker died."""
    accepted = admin.post("executions/", {"plan": plan("true")}).json()
    from queueing.queue import remove

    remove([accepted["id"]])
    execution = Execution.objects.get(pk=accepted["id"])
    Execution.objects.filter(pk=execution.pk).update(status="needs_attention")
    execution.steps.update(status="unknown")
    execution.step_targets.update(status="unknown")
    DeadLetter.objects.create(
        execution_id=execution.pk, tenant_id=execution.tenant_id, reason="outcome_unknown", attempts=1
    )
    return execution


def test_a_person_says_what_became_of_a_step(admin: Api, unknown: Execution) -> None:
    told = admin.post(
        f"executions/{unknown.pk}/resolve/", {"step": "step-1", "as": "succeeded", "reason": "saw the file"}
    )

    assert told.json()["status"] == "queued"
    detail = admin.get(f"executions/{unknown.pk}/").json()
    assert detail["steps"][0]["status"] == "succeeded"
    again = admin.post(f"executions/{unknown.pk}/resolve/", {"step": "step-1", "as": "failed", "reason": "x"})
    problem_of(again, 409, "not_waiting")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"step": "step-1", "as": "fine", "reason": "x"},
        {"step": "step-1", "as": "failed"},
        {"step": "step-1", "as": "failed", "reason": ""},
        {"step": 1, "as": "failed", "reason": "x"},
        {"step": "a\0b", "as": "failed", "reason": "x"},
    ],
)
def test_a_resolution_without_step_outcome_or_reason_is_refused(admin: Api, unknown: Execution, body: object) -> None:
    problem_of(admin.post(f"executions/{unknown.pk}/resolve/", body), 422, "invalid_body")


def test_an_entry_with_an_unknown_outcome_is_not_requeued(admin: Api, unknown: Execution) -> None:
    entry = DeadLetter.objects.get()

    problem_of(admin.post(f"dead-letters/{entry.pk}/requeue/", {}), 409, "unknown_outcome")


def test_dlq_entries_are_listed_requeued_and_discarded(admin: Api, unknown: Execution) -> None:
    unknown.steps.update(status="pending")
    unknown.step_targets.update(status="pending")
    entry = DeadLetter.objects.get()
    listed = admin.get("dead-letters/").json()["results"]
    assert [(row["id"], row["execution"], row["state"]) for row in listed] == [(entry.pk, unknown.pk, "open")]
    assert listed[0]["advice"]
    matching = {"filter": {"reason": "outcome_unknown"}, "reason": "again", "dry_run": True}
    assert admin.post("dead-letters/requeue/", matching).json()["matched"] == 1
    assert DeadLetter.objects.get().state == "open"

    told = admin.post("dead-letters/requeue/", {**matching, "dry_run": False}).json()

    assert told["counts"] == {"requeued": 1}
    assert told["results"] == [{"id": entry.pk, "outcome": "requeued"}]
    assert Execution.objects.get(pk=unknown.pk).status == "queued"
    assert admin.get("dead-letters/").json()["results"] == []
    closed = admin.get("dead-letters/?state=requeued").json()["results"]
    assert closed[0]["closed_by"] == "user:root"
    problem_of(admin.post(f"dead-letters/{entry.pk}/discard/", {"reason": "x"}), 409, "no_longer_open")


def test_a_dlq_entry_is_given_up(admin: Api, unknown: Execution) -> None:
    entry = DeadLetter.objects.get()

    told = admin.post(f"dead-letters/{entry.pk}/discard/", {"reason": "the machine is gone"})

    assert told.json()["outcome"] == "discarded"
    assert Execution.objects.get(pk=unknown.pk).status == "failed"


@pytest.mark.parametrize(
    "body",
    [
        {}, {"filter": []}, {"filter": {"nope": 1}}, {"filter": {"ids": ["x"]}}, {"filter": {"ids": [2**63]}},
        {"filter": {"q": "\0"}},
    ],
)  # fmt: skip
def test_a_filter_that_is_not_understood_touches_nothing(admin: Api, unknown: Execution, body: object) -> None:
    problem_of(admin.post("dead-letters/discard/", body), 422, "invalid_body")
    assert DeadLetter.objects.get().state == "open"
