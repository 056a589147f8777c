"""The page of approvals, what it says of each, the badge, and deciding there."""

from __future__ import annotations

import re

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from executions.models import Approval, Asset, Execution, PendingApproval
from executions.services import approve
from safety.models import User
from tests.executions.services.requests import ask, change, make_asset, make_user, status_of, waiting_on_wave

pytestmark = pytest.mark.django_db


@pytest.fixture
def bob(db: None) -> User:
    """Asks for executions."""
    make_asset("prod1", hostname="prod1.example")
    make_asset("vault", criticality="critical")
    return make_user("bob", "admin")


@pytest.fixture
def anna(db: None) -> User:
    return make_user("anna", "approver")


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user, backend="safety.backends.PasswordBackend")
    return client


def text_of(client: Client, path: str = "/approvals/") -> str:
    response = client.get(path)
    assert response.status_code == 200
    return re.sub(r"\s+", " ", response.content.decode())


def waiting_on_step(bob: User) -> int:
    """An execution that its worker has left waiting before its second step."""
    steps = [change("b", "prod1", key="backup"), change("w", "vault", key="wipe", requires_approval=True)]
    one = ask(bob, *steps).execution_id
    execution = Execution.objects.get(pk=one)
    for name in ("first", "second"):
        by = make_user(name, "approver")
        Approval.objects.create(
            execution=execution, by=by, approved=True, plan_hash=execution.plan_hash,
            targets_hash=execution.targets_hash,
        )  # fmt: skip
    execution.steps.filter(key="backup").update(status="succeeded")
    PendingApproval.objects.filter(pk=one).update(steps=["wipe"])
    Execution.objects.filter(pk=one).update(
        started_at=execution.created_at, status_reason="Step 'wipe' (shell) on vault waits for approval."
    )
    return one


def test_a_card_says_everything_that_is_needed_to_decide(bob: User, anna: User) -> None:
    steps = [change("x", "prod1", description="Stops the old one", preconditions=["nobody is importing"]),
             change("y", "vault", key="b")]  # fmt: skip
    one = ask(bob, *steps, reason="ticket 1182").execution_id
    approve(one, by=make_user("carl", "approver"), comment="agreed")
    page = text_of(signed_in(anna))
    for said in (
        "One waits for your decision", "bob asked for it", "ticket 1182", "Level 3", "critical machine", "production",
        "2 changing steps", "1 of 2", "carl approved: agreed", "prod1", "vault", "Stops the old one",
        "nobody is importing", "echo x", "data-until", Execution.objects.get(pk=one).plan_hash[:12],
    ):  # fmt: skip
        assert said in page, said
    assert page.count('data-decide="approve"') == 1
    assert "disabled" not in page.split("data-ask")[1]


def test_what_has_changed_since_is_said_and_only_refused(bob: User, anna: User) -> None:
    ask(bob, change("x", "prod1"))
    Asset.objects.filter(name="prod1").update(hostname="other.example")
    page = text_of(signed_in(anna))
    assert "prod1 was changed: hostname was prod1.example, is other.example." in page
    assert "disabled" in page.split('data-decide="approve"')[1].split(">")[0]
    assert "disabled" not in page.split('data-decide="refuse"')[1].split(">")[0]


def test_nobody_decides_on_their_own_and_who_has_decided_waits_for_others(bob: User, anna: User) -> None:
    one = ask(bob, change("x", "vault")).execution_id
    mine = text_of(signed_in(bob))
    assert "Nothing waits for you" in mine
    assert "Yours, waiting for others" in mine
    assert 'data-decide="approve"' not in mine
    approve(one, by=anna)
    page = text_of(signed_in(anna))
    assert "you have approved it" in page
    assert 'data-decide="approve"' not in page
    assert "you may not decide on it" in text_of(signed_in(make_user("vera", "viewer")))
    assert text_of(signed_in(make_user("eve", "admin", tenant="other"))).count("Nothing waits for you") == 1


def test_a_step_is_asked_for_by_its_name(bob: User, anna: User) -> None:
    one = waiting_on_step(bob)
    page = text_of(signed_in(anna))
    assert "<b>Step wipe</b>" in page
    assert 'data-step="wipe"' in page
    assert "needs an approval of its own" in page
    shown = page.split("data-ask")[1].split("whole-plan")[0]
    assert "vault" in shown
    assert "prod1" not in shown, "the machines of the step alone"
    execution_page = text_of(signed_in(anna), f"/executions/{one}/")
    assert "Step &#x27;wipe&#x27; (shell) on vault waits for approval." in execution_page
    assert 'data-dialog="approve" data-step="wipe"' in execution_page
    response = signed_in(anna).post(
        f"/executions/{one}/approve/", {"step": "wipe", "comment": "go", "back": "approvals"}
    )
    assert (response.status_code, response.headers["Location"]) == (302, "/approvals/")
    assert status_of(one) == "queued"


def test_a_form_of_the_plan_approves_no_step(bob: User, anna: User) -> None:
    """It was opened before the plan had got there."""
    one = waiting_on_step(bob)
    answer = signed_in(anna).post(f"/executions/{one}/approve/", {"step": "", "back": "approvals"}, follow=True)
    assert "The plan as a whole of execution" in answer.content.decode()
    assert status_of(one) == "pending_approval"


def test_it_is_refused_and_withdrawn_from_the_pages(bob: User, anna: User) -> None:
    client = signed_in(anna)
    one, other = (ask(bob, change(text, "prod1")).execution_id for text in ("x", "y"))
    client.post(f"/executions/{one}/reject/", {"step": "", "comment": "not today", "back": "approvals"})
    assert Execution.objects.get(pk=one).status_reason == "not today"
    client.post(f"/executions/{other}/approve/", {"step": ""})
    assert "Withdraw approval" in text_of(client, f"/executions/{other}/")
    client.post(f"/executions/{other}/withdraw-approval/", {"reason": "wrong window"})
    assert status_of(other) == "cancelled"
    assert "Withdraw approval" not in text_of(client, f"/executions/{other}/")


def test_the_badge_counts_what_waits_for_whoever_asks(bob: User, anna: User) -> None:
    ask(bob, change("x", "prod1"))
    one = ask(bob, change("y", "vault")).execution_id
    counts = {who: signed_in(who).get("/approvals/badge/").content for who in (anna, bob)}
    assert counts == {anna: b"2", bob: b"0"}
    approve(one, by=anna)
    assert signed_in(anna).get("/approvals/badge/").content == b"1"
    Execution.objects.update(approval_expires_at="2020-01-01T00:00:00Z")
    assert signed_in(anna).get("/approvals/badge/").content == b"0"
    assert 'data-badge="/approvals/badge/"' in text_of(signed_in(anna), "/executions/")


def test_many_that_wait_take_no_more_statements_than_one(bob: User, anna: User) -> None:
    client = signed_in(anna)

    def statements() -> int:
        with CaptureQueriesContext(connection) as counted:
            text_of(client)
        return len(counted)

    ask(bob, change("first", "prod1"))
    client.get("/approvals/")
    few = statements()
    for number in range(12):
        ask(bob, change(f"x{number}", "prod1", "vault"))
    assert statements() == few
    assert few <= 16


def test_a_wave_is_shown_with_what_became_of_those_before(bob: User, anna: User) -> None:
    hosts = [make_asset(f"web-{number:02}").name for number in range(36)]
    one = waiting_on_wave(bob, make_user("first", "approver"), hosts, failed=1, on_failure="rollback")
    client = signed_in(anna)
    page = text_of(client)
    card = page.split("data-ask")[1].split("whole-plan")[0]
    assert "<b>wave 2 of step &#x27;roll-out&#x27;</b>" in card
    assert re.search(
        r"11 of 12</b> succeeded, <span class=.bad.>1 failed</span>; wave 2 of 3 has 12, and 12 come after", card
    )
    assert card.index("web-00") < card.index("It broke.") < card.index("web-01"), "what failed comes first"
    assert "version 2" in card, "the last line that it printed"
    following = card.split("Next machines")[1]
    assert [f"web-{n:02}" in following for n in (11, 12, 23, 24)] == [False, True, True, False]
    assert "what it has done is <b>rolled back</b>" in card
    assert 'data-step="roll-out" data-wave="2"' in page
    told = text_of(client, f"/executions/{one}/")
    assert 'data-dialog="approve" data-step="roll-out" data-wave="2"' in told
    assert "It broke." in told

    answer = client.post(f"/executions/{one}/approve/", {"step": "roll-out", "wave": "3"}, follow=True)
    assert "Wave 3 of step" in answer.content.decode()
    assert status_of(one) == "pending_approval"
    client.post(f"/executions/{one}/approve/", {"step": "roll-out", "wave": "2", "comment": "go"})
    assert status_of(one) == "queued"


def test_waves_that_wait_take_no_more_statements_than_one(bob: User, anna: User) -> None:
    client, first = signed_in(anna), make_user("first", "approver")
    hosts = [make_asset(f"web-{number}").name for number in range(6)]

    def statements() -> int:
        with CaptureQueriesContext(connection) as counted:
            text_of(client)
        return len(counted)

    waiting_on_wave(bob, first, hosts)
    client.get("/approvals/")
    few = statements()
    for _ in range(5):
        waiting_on_wave(bob, first, hosts)
    assert statements() == few
    assert few <= 18


def test_texts_of_a_plan_are_escaped(bob: User, anna: User) -> None:
    ask(bob, change("x", "prod1", description="<script>alert(1)</script>"), reason="<img src=x>")
    page = text_of(signed_in(anna))
    assert "<script>alert" not in page
    assert "<img src=x>" not in page


def test_the_admin_shows_who_decided_on_which_wave(bob: User, anna: User) -> None:
    one = waiting_on_wave(
        bob, make_user("ben", "approver"), ["prod1", *(make_asset(f"web-{n}").name for n in range(2))]
    )
    approve(one, by=anna, step="roll-out", wave=2, comment="fine so far")
    page = text_of(signed_in(make_user("olga", "admin")), f"/admin/executions/execution/{one}/change/")
    assert "wave 2 of step &#x27;roll-out&#x27;" in page
    assert "fine so far" in page


def test_what_is_refused_and_to_be_undone_says_that_and_not_that_it_was_cancelled(bob: User, anna: User) -> None:
    hosts = [make_asset(f"web-{number}").name for number in range(3)]
    undo = {"tool": "shell", "inputs": {"command": "true"}}
    one = waiting_on_wave(bob, make_user("ben", "approver"), hosts, on_failure="rollback", rollback=undo)
    client = signed_in(anna)
    form = {"step": "roll-out", "wave": "2", "comment": "too slow"}
    answer = client.post(f"/executions/{one}/reject/", form, follow=True).content.decode()
    assert "rejected. What it has done is being undone; then it ends." in answer
    assert status_of(one) == "cancelling"
    page = text_of(client, f"/executions/{one}/")
    assert (
        "wave 2 of step &#x27;roll-out&#x27; was rejected: too slow. 2 targets were left alone: web-1, web-2." in page
    )
    assert "What was done is about to be rolled back." in page
    assert "Cancelled by" not in page
