"""Where a worker finds a machine: where the plan has it, by what the inventory says of it now."""

from __future__ import annotations

from typing import Any

import pytest

from executions.engine.reach import credential_path, learn_reach, moved, target_of
from executions.engine.state import ExecutionState, StepState, TargetState
from executions.models import Asset
from safety.models import Tenant

pytestmark = pytest.mark.django_db


def planned(**fields: Any) -> tuple[ExecutionState, dict[str, Any], Asset]:
    """An execution on one machine, as its plan has it and as the inventory does."""
    asset = Asset.objects.create(
        tenant=Tenant.objects.get(name="default"), name="db-7", hostname="gw.example.org", port=2207, connection="ssh",
        credential="ssh/db-7", username="ops",
    )  # fmt: skip
    target = {
        "asset_id": asset.pk, "name": "db-7", "hostname": "gw.example.org", "ip_address": None, "connection": "ssh",
        **fields,
    }  # fmt: skip
    step = StepState(1, "a", {}, "pending", [TargetState(1, target, "pending", 0, None, "")])
    state = ExecutionState(
        1, asset.tenant_id, 1, "queued", "modify", step_seconds=1, remaining_seconds=1, document={}, steps=[step]
    )
    learn_reach([state])
    return state, target, asset


def test_it_is_reached_by_the_port_that_was_approved() -> None:
    """Behind one gateway, the port is what tells one machine from another."""
    state, target, asset = planned(port=2207)
    assert moved(state, target) == ""
    Asset.objects.filter(pk=asset.pk).update(port=2208)
    learn_reach([state])
    assert (target_of(state, target).port, target_of(state, target).username) == (2207, "ops")
    assert moved(state, target) == "port was 2207, is 2208"


def test_a_plan_that_wants_the_usual_port_gets_no_other() -> None:
    state, target, _ = planned(port=None)
    assert target_of(state, target).port is None
    assert moved(state, target) == "port was empty, is 2207"


def test_a_plan_of_an_earlier_release_knows_no_port_and_takes_the_inventorys() -> None:
    state, target, _ = planned()
    assert target_of(state, target).port == 2207
    assert moved(state, target) == ""


@pytest.mark.parametrize(
    "change", [{"hostname": "evil.example.org"}, {"ip_address": "10.6.6.6"}, {"connection": "powershell"}]
)
def test_what_is_elsewhere_now_is_told(change: dict[str, Any]) -> None:
    state, target, asset = planned(port=2207)
    Asset.objects.filter(pk=asset.pk).update(**change)
    learn_reach([state])
    ((field, value),) = change.items()
    assert f"is {value}" in moved(state, target)
    assert field.replace("_", " ") in moved(state, target)
    assert credential_path(state, target) == "ssh/db-7"
    assert getattr(target_of(state, target), field) == target[field]


@pytest.mark.parametrize("level", [0, 2])
def test_what_was_approved_is_not_signed_in_to_by_somebody_else(level: int) -> None:
    """What nobody approved goes by what the inventory says now."""
    state, target, asset = planned(port=2207, sign_in=["ops", "", "ssh/db-7", ""])
    state.approval_level = level
    assert moved(state, target) == ""
    Asset.objects.filter(pk=asset.pk).update(username="root", host_key="SHA256:first")
    learn_reach([state])
    assert moved(state, target) == ("username was ops, is root" if level else "")
