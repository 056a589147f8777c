"""What the page and the API say of a rollback: the story, the rows apart, and the ways out when it failed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from executions.live.feed import read
from executions.models import Execution, ExecutionPlan, Step, StepTarget
from queueing.models import DeadLetter
from safety.models import User
from tests.executions.live.rows import make_execution, make_user, move_target, print_out

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> User:
    return make_user("alice", is_superuser=True, is_staff=True)


@pytest.fixture
def client(alice: User) -> Client:
    client = Client()
    client.force_login(alice)
    return client


Undone = Callable[..., Execution]
SENTENCE = "Step 'check' failed on b. Rolled back on b: change."


@pytest.fixture
def undone(alice: User) -> Undone:
    """An execution on a and b that undoes `change` on b."""

    def make(status: str, of_rollback: str, **fields: str) -> Execution:
        execution = make_execution(
            alice, steps=("change", "check"), hosts=("a", "b"), status=status, status_reason=SENTENCE, **fields
        )
        execution.step_targets.update(status="succeeded", attempt=1)
        execution.steps.update(status="succeeded")
        rollback = Step.objects.create(
            execution=execution, position=3, key="change", tool="shell", kind="rollback", status=of_rollback,
            description="on b", error="It ended with exit code 4." if of_rollback == "failed" else "",
        )  # fmt: skip
        StepTarget.objects.create(
            execution=execution, step=rollback, position=2, name="b", status=of_rollback, attempt=1
        )
        return execution

    return make


def test_the_page_tells_the_story_with_what_was_undone_apart(client: Client, undone: Undone) -> None:
    execution = undone("failed", "succeeded")
    page = client.get(f"/executions/{execution.pk}/").content.decode()
    assert "Rolled back on b: change." in page
    rail, undoing = page.split("Rollback, newest first")
    assert 'data-step="change"' in rail
    assert 'data-step="undo change"' in undoing
    assert "<b>4</b> of 4" in page  # what undoes is not counted as something to do
    assert "undo change" in client.get(f"/executions/{execution.pk}/fragments/?names=waterfall").content.decode()
    assert [step[1:3] for step in client.get(f"/executions/{execution.pk}/hosts/").json()["steps"]] == [
        ["change", "step"], ["check", "step"], ["change", "rollback"]
    ]  # fmt: skip


def test_while_it_undoes_the_page_says_how_far_it_is(client: Client, undone: Undone) -> None:
    execution = undone("running", "running")
    page = client.get(f"/executions/{execution.pk}/fragments/?names=header,cancel").content.decode()
    assert "Rolling back: change." in page
    assert "A cancel does not stop that" in page


def test_a_rollback_that_failed_has_its_three_ways_out(client: Client, undone: Undone) -> None:
    execution = undone("needs_attention", "failed")
    DeadLetter.objects.create(
        execution_id=execution.pk, tenant_id=execution.tenant_id, reason="rollback_failed", error="x", attempts=1
    )
    strip = client.get(f"/executions/{execution.pk}/fragments/?names=strip").content.decode()
    assert "Not everything is undone" in strip
    assert "It ended with exit code 4." in strip
    for answer, words in (("succeeded", "It is undone"), ("failed", "Let it stand"), ("run_again", "Try again")):
        assert f'data-dialog="undo" data-step="change" data-as="{answer}"' in strip
        assert words in strip
    assert "It succeeded" not in strip
    told = client.get(f"/api/v1/executions/{execution.pk}/").json()
    assert told["rolled_back"] == [{"id": "change", "status": "failed", "undone": [], "not_undone": ["b"]}]
    [error] = told["errors"]
    assert error["message"] == "Rollback of step change: It ended with exit code 4."
    assert "failed (let it stand)" in error["how_to_fix"]
    entry = DeadLetter.objects.get().pk
    unknown = client.get(f"/api/v1/dead-letters/{entry}/").json()["unknown_steps"]
    assert unknown == [{"step": "change", "kind": "rollback", "targets": ["b"]}]


def test_the_dialog_says_what_a_cancel_would_undo_and_where(client: Client, alice: User) -> None:
    execution = make_execution(alice, steps=("change", "check"), hosts=("a", "b", "c"), step_status="pending")
    words = lambda: client.get(f"/executions/{execution.pk}/fragments/?names=cancel").content.decode()  # noqa: E731
    for target in execution.step_targets.filter(step__key="change", name__in=("a", "b")):
        move_target(target, "succeeded", attempt=1)
    assert "Nothing is rolled back: no step that ran says how." in words()
    plan = ExecutionPlan.objects.get(pk=execution.pk)
    plan.document["steps"][0]["rollback"] = {"tool": "shell", "inputs": {"command": "undo"}}
    plan.save()
    assert "undone, newest first, within 30 s in all: <b>change</b> on a, b." in words()


def test_output_of_what_undoes_a_step_is_told_from_the_steps_own(client: Client, undone: Undone) -> None:
    execution = undone("running", "running")
    own, undoing = (
        StepTarget.objects.select_related("execution", "step").get(step__kind=kind, step__key="change", name="b")
        for kind in ("step", "rollback")
    )
    print_out(own, ["done\n"])
    print_out(undoing, ["undone\n"])
    kinds = [item["data"].get("kind") for item in read(execution.pk) if item["kind"] == "output"]
    assert kinds == [None, "rollback"]
