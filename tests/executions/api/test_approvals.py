"""What waits for approvals over the API, the decisions on steps, and approvals that are taken back."""

from __future__ import annotations

import pytest
from guardian.shortcuts import assign_perm

from executions.models import Asset, AssetGroup, Execution
from safety import rbac
from safety.models import AuditRecord, User
from tests.executions.api.conftest import Api, MakeApi, plan, problem_of
from tests.executions.services.requests import ask, change, make_asset, waiting_on_wave

pytestmark = pytest.mark.django_db


@pytest.fixture
def waiting(admin: Api) -> int:
    Asset.objects.filter(name="localhost").update(environment="production", criticality="critical")
    return int(admin.post("executions/", {"plan": plan("systemctl restart nginx"), "reason": "why"}).json()["id"])


def test_what_waits_is_listed_for_those_who_may_decide(
    admin: Api, stranger: Api, make_api: MakeApi, waiting: int
) -> None:
    anna, vera = make_api("anna", "approver"), make_api("vera", "viewer")
    (row,) = anna.get("approvals/").json()["results"]
    assert (row["id"], row["actor"], row["reason"], row["changes"]) == (waiting, "root", "why", [])
    assert row["approval"] == {
        "level": 3, "needed": 2, "given": 0, "by": [], "waits_for": "plan", "steps": [], "waves": [],
        "reasons": ["critical machine", "production", "1 changing step"],
    }  # fmt: skip
    assert anna.get("approvals/count/").json() == {"mine": 1}
    for who in (admin, vera, stranger):
        assert who.get("approvals/").json()["results"] == []
    assert [row["id"] for row in admin.get("approvals/?whose=own").json()["results"]] == [waiting]
    assert [row["id"] for row in vera.get("approvals/?whose=all").json()["results"]] == [waiting]
    assert stranger.get("approvals/?whose=all").json()["results"] == []
    problem_of(anna.get("approvals/?whose=everybody"), 400, "invalid_parameter")

    Asset.objects.filter(name="localhost").update(hostname="elsewhere")
    assert anna.get("approvals/").json()["results"][0]["changes"]
    refused = problem_of(anna.post(f"executions/{waiting}/approve/", {}), 409, "targets_changed")
    assert "localhost was changed" in refused["errors"][0]["message"]


def test_an_execution_says_how_far_its_approval_is(admin: Api, make_api: MakeApi, waiting: int) -> None:
    anna, ben = make_api("anna", "approver"), make_api("ben", "approver")
    anna.post(f"executions/{waiting}/approve/", {"reason": "looked"})
    told = admin.get(f"executions/{waiting}/").json()
    assert (told["approval"]["given"], told["approval"]["needed"], told["approval"]["by"]) == (1, 2, ["anna"])
    assert anna.get("approvals/").json()["results"] == [], "she has decided"
    problem_of(ben.post(f"executions/{waiting}/approve/", {"step": "step-1"}), 409, "not_waiting_for_approval")
    assert ben.post(f"executions/{waiting}/approve/", {}).json()["status"] == "queued"
    assert admin.get(f"executions/{waiting}/").json()["approval"]["waits_for"] is None


def test_a_wave_that_waits_is_shown_with_what_became_of_those_before(admin: Api, make_api: MakeApi) -> None:
    anna, ben = make_api("anna", "approver"), make_api("ben", "approver")
    hosts = [make_asset(f"web-{number}", "development").name for number in range(6)]
    users = {user.username: user for user in User.objects.all()}
    one = waiting_on_wave(users["root"], users["ben"], hosts, failed=1)
    (row,) = anna.get("approvals/").json()["results"]
    asked = row["approval"]
    assert (row["id"], asked["level"], asked["waits_for"], asked["steps"]) == (one, 2, "waves", [])
    assert asked["waves"] == [
        {"id": "roll-out", "wave": 2, "targets": 2, "by": [], "waiting": True},
        {"id": "roll-out", "wave": 3, "targets": 2, "by": [], "waiting": False},
    ]
    told = anna.get(f"executions/{one}/").json()["steps"][0]["waves"]
    assert [(wave["counts"]["ok"], wave["counts"]["failed"], wave["counts"]["pending"]) for wave in told] == [
        (1, 1, 0), (0, 0, 2), (0, 0, 2),
    ]  # fmt: skip

    path = f"executions/{one}/approve/"
    problem_of(admin.post(path, {"step": "roll-out", "wave": 2}), 403, "self_approval")
    problem_of(anna.post(path, {"step": "roll-out", "wave": 3}), 409, "not_waiting_for_approval")
    problem_of(anna.post(path, {"step": "roll-out", "wave": -1}), 422, "invalid_body")
    assert ben.post(path, {"step": "roll-out", "wave": 2, "comment": "fine"}).json()["status"] == "queued"
    told = anna.get(f"executions/{one}/").json()
    assert [(one["by"], one["step"], one["wave"]) for one in told["approvals"]] == [
        ("ben", None, None), ("ben", "roll-out", 2),
    ]  # fmt: skip
    assert told["approval"]["waves"][0]["by"] == ["ben"]
    record = AuditRecord.objects.get(object_id=str(one), action="step.approve", allowed=True)
    assert (record.data["step"], record.data["wave"]) == ("roll-out", 2)


def test_the_preview_lists_the_gates_and_who_may_approve(admin: Api, make_api: MakeApi) -> None:
    """By role on everything, by group where it holds every machine; never whoever asks."""
    make_api("anna", "approver")
    hosts = [make_asset(f"web-{number}", "development") for number in range(3)]
    group = AssetGroup.objects.create(tenant=hosts[0].tenant, name="web")
    group.assets.add(*hosts)
    some = AssetGroup.objects.create(tenant=hosts[0].tenant, name="some")
    some.assets.add(*hosts[1:])
    for name, of in (("gina", group), ("sam", some)):
        make_api(name)
        assign_perm("executions.approve", User.objects.get(username=name), of)
    fan_out = {"waves": [1, 1, "rest"], "gate": {"approval": True}}
    steps = [change("x", "group:web", key="roll-out", fan_out=fan_out)]
    told = admin.post("executions/preview/", {"plan": {"title": "t", "steps": steps}}).json()
    assert (told["approval_level"], told["steps_to_approve"]) == (2, [])
    assert told["gates"] == [
        {"id": "roll-out", "wave": 2, "waves": 3, "targets": ["web-1"]},
        {"id": "roll-out", "wave": 3, "waves": 3, "targets": ["web-2"]},
    ]
    assert told["approvers"] == ["anna", "gina"]
    # The rule of an execution, asked for its plan: the two agree.
    one = ask(User.objects.get(username="root"), *steps).execution_id
    able = rbac.approvers_among({(user.pk, one) for user in User.objects.exclude(username="root")})
    assert sorted(User.objects.get(pk=pk).username for pk, _ in able) == told["approvers"]
    # What it changes without a machine no group vouches for.
    steps.append({"id": "tell", "tool": "http", "inputs": {"method": "POST", "url": "https://example.com/"}})
    told = admin.post("executions/preview/", {"plan": {"title": "t", "steps": steps}}).json()
    assert told["approvers"] == ["anna"]


def test_an_approval_is_taken_back(admin: Api, make_api: MakeApi, waiting: int) -> None:
    anna, ben = make_api("anna", "approver"), make_api("ben", "approver")
    path = f"executions/{waiting}/withdraw-approval/"
    problem_of(anna.post(path, {"reason": "x"}), 409, "nothing_to_withdraw")
    problem_of(anna.post(path, {}), 422, "invalid_body")
    for who in (anna, ben):
        who.post(f"executions/{waiting}/approve/", {})
    assert anna.post(path, {"reason": "wrong window"}).json()["status"] == "cancelled"
    told = admin.get(f"executions/{waiting}/").json()
    assert (told["error_code"], told["final"]) == ("approval_withdrawn", True)
    assert [row["withdrawn_reason"] for row in told["approvals"]] == ["wrong window", None]


def test_nothing_in_a_body_sets_level_or_approver(admin: Api) -> None:
    """What the caller says of it is read over: the server decides."""
    Asset.objects.filter(name="localhost").update(environment="production")
    body = {"plan": plan("true"), "approval_level": 0, "approver": "root", "status": "queued"}
    told = admin.post("executions/", body).json()
    assert (told["status"], told["approval_level"]) == ("pending_approval", 2)
    problem_of(admin.post(f"executions/{told['id']}/approve/", {"approver": "anna"}), 422, "invalid_body")
    inside = plan("id", title="again") | {"approval_level": 0, "execution_metadata": {"approval_points": []}}
    told = admin.post("executions/", {"plan": inside}).json()
    assert told.get("approval_level", 2) == 2


def test_approval_points_raise_the_level_and_nothing_lowers_it(admin: Api) -> None:
    """In development it would run by itself."""
    asked = plan("true", "id") | {"execution_metadata": {"approval_points": ["step-2"]}}
    told = admin.post("executions/", {"plan": asked}).json()
    assert (told["status"], told["approval_level"]) == ("pending_approval", 2)
    preview = admin.post("executions/preview/", {"plan": asked}).json()
    assert (preview["approvals_needed"], preview["steps_to_approve"]) == (1, [])
    Asset.objects.filter(name="localhost").update(criticality="critical")
    preview = admin.post("executions/preview/", {"plan": asked}).json()
    assert (preview["approval_level"], preview["steps_to_approve"]) == (3, ["step-2"])
    assert preview["approval_reasons"] == ["critical machine", "2 changing steps", "the plan asks for approval"]


def test_every_decision_and_every_refusal_is_in_the_audit(admin: Api, make_api: MakeApi, waiting: int) -> None:
    anna, vera = make_api("anna", "approver"), make_api("vera", "viewer")
    vera.post(f"executions/{waiting}/approve/", {})
    admin.post(f"executions/{waiting}/approve/", {})
    anna.post(f"executions/{waiting}/approve/", {"comment": "looked"})
    anna.post(f"executions/{waiting}/withdraw-approval/", {"reason": "no"})
    anna.post(f"executions/{waiting}/reject/", {"comment": "not today"})
    rows = AuditRecord.objects.filter(object_type="execution", object_id=str(waiting)).order_by("pk")
    told = [(r.actor, r.action, r.allowed, r.code, r.reason) for r in rows if "submit" not in r.action]
    assert [row[:4] for row in told] == [
        ("user:vera", "execution.approve", False, "forbidden"),
        ("user:root", "execution.approve", False, "self_approval"),
        ("user:anna", "execution.approve", True, ""),
        ("user:anna", "execution.withdraw_approval", True, ""),
        ("user:anna", "execution.reject", True, ""),
    ]
    assert [row[4] for row in told[2:]] == ["looked", "no", "not today"]
    execution = Execution.objects.get(pk=waiting)
    approved = rows.get(action="execution.approve", allowed=True)
    assert approved.data["plan_hash"] == execution.plan_hash
    assert approved.data["targets_hash"] == execution.targets_hash
