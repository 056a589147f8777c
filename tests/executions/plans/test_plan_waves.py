"""Waves and gates in a plan: what may be written, how many targets each wave has, and what the hash says of it."""

from __future__ import annotations

from typing import Any

import pytest

from executions.approval_points import Point, points_to_approve
from executions.plans.inventory import InventoryAsset
from executions.plans.waves import wave_sizes
from executions.services.policy import needed_seconds, risk_of
from safety.approvals import approval_level
from tests.executions.plans.compiling import compiled, step, steps, told
from tests.executions.plans.memory_inventory import MemoryInventory

USUAL = ["5%", "25%", "rest"]
GATE = {"pause_seconds": 0.0, "max_failures": 0}


def fanned(**fan_out: Any) -> dict[str, Any]:
    return step(targets=["group:web"], fan_out=fan_out)


def stored(**fan_out: Any) -> dict[str, Any]:
    return dict(compiled([fanned(**fan_out)]).document["steps"][0])


@pytest.mark.parametrize(
    ("waves", "total", "sizes"),
    [
        (USUAL, 1000, [50, 250, 700]),
        (USUAL, 100, [5, 25, 70]),
        (USUAL, 10, [1, 2, 7]),  # rounded down, and at least one
        (USUAL, 3, [1, 1, 1]),
        (USUAL, 2, [1, 1]),  # a wave for which nothing is left falls away
        (USUAL, 1, [1]),
        ([1, 10, "rest"], 100, [1, 10, 89]),
        ([1, "50%"], 10, [1, 5, 4]),  # what is left over is one more wave
        (["50%", "50%"], 7, [3, 3, 1]),
        (["100%"], 7, [7]),
        ([5, 5], 7, [5, 2]),
        (["29%", "rest"], 100, [29, 71]),  # a float would make it 28
        (["57%", "rest"], 100, [57, 43]),
    ],
)
def test_waves_have_every_target_once_and_shares_are_exact(
    waves: list[int | str], total: int, sizes: list[int]
) -> None:
    assert wave_sizes(waves, total) == sizes
    assert sum(sizes) == total


def test_waves_are_fixed_when_the_plan_is_taken_in() -> None:
    assert stored(waves=True)["fan_out"] == {"max_concurrent": 20, "max_failures": 0, "waves": USUAL, "gate": GATE}
    made = stored(waves=["1", " 50 % ", "REST"], max_failures="10%", gate={"pause_seconds": "5", "max_failures": 1})
    assert made["fan_out"]["waves"] == [1, "50%", "rest"]
    assert made["fan_out"]["gate"] == {"pause_seconds": 5.0, "max_failures": 1}
    assert sum(made["waves"]) == len(made["targets"])
    nothing: list[Any] = [None, False, "no", []]
    for none in nothing:
        plain = stored(waves=none)
        assert "waves" not in plain
        assert plain["fan_out"] == {"max_concurrent": 20, "max_failures": 0}


@pytest.mark.parametrize(
    ("fan_out", "path"),
    [
        ({"waves": "5%"}, "fan_out.waves"),
        ({"waves": ["0%"]}, "fan_out.waves[0]"),
        ({"waves": [0]}, "fan_out.waves[0]"),
        ({"waves": ["101%"]}, "fan_out.waves[0]"),
        ({"waves": [1.5]}, "fan_out.waves[0]"),
        ({"waves": [True]}, "fan_out.waves[0]"),
        ({"waves": [1, None]}, "fan_out.waves[1]"),
        ({"waves": ["rest", 5]}, "fan_out.waves[0]"),
        ({"waves": [1] * 51}, "fan_out.waves"),
        ({"gate": {"pause_seconds": 1}}, "fan_out.gate"),
        ({"waves": False, "gate": {"pause_seconds": 1}}, "fan_out.gate"),
        ({"waves": True, "gate": {"approval": "maybe"}}, "fan_out.gate.approval"),
        ({"waves": True, "gate": {"pause_seconds": -1}}, "fan_out.gate.pause_seconds"),
        ({"waves": True, "gate": {"max_failures": "120%"}}, "fan_out.gate.max_failures"),
        ({"waves": True, "gate": {"max_failures": 1}}, "fan_out.gate.max_failures"),
    ],
)
def test_what_no_wave_or_gate_can_be_is_refused_where_it_stands(fan_out: dict[str, Any], path: str) -> None:
    assert told([fanned(**fan_out)]) == [("invalid_input", f"steps[0].{path}")]


def test_the_hash_knows_the_waves_and_with_them_which_machines_come_first() -> None:
    def hash_of(targets: list[str], **fan_out: Any) -> str:
        return compiled([step(targets=targets, fan_out=fan_out)]).hash

    there, back = ["web-1", "web-2"], ["web-2", "web-1"]
    assert hash_of(there) == hash_of(back), "without waves the order says nothing"
    assert hash_of(there, waves=[1, "rest"]) != hash_of(back, waves=[1, "rest"])
    assert hash_of(there, waves=[1, "rest"]) != hash_of(there)
    assert hash_of(there, waves=[1, "rest"]) != hash_of(there, waves=[1, "rest"], gate={"pause_seconds": 1})
    assert hash_of(there, waves=True) == hash_of(there, waves=USUAL)


def test_a_gate_may_ask_for_a_person_and_then_the_plan_is_never_below_level_2() -> None:
    gate = {"approval": "yes", "pause_seconds": 5}
    made = compiled([fanned(waves=[1, "rest"], gate=gate)])
    asked = made.document["steps"][0]
    assert asked["fan_out"]["gate"] == {"pause_seconds": 5.0, "max_failures": 0, "approval": True}
    not_asked = compiled([fanned(waves=[1, "rest"], gate={**gate, "approval": False})])
    assert "approval" not in not_asked.document["steps"][0]["fan_out"]["gate"], "its hash is that of a plan without"
    assert not_asked.hash == compiled([fanned(waves=[1, "rest"], gate={"pause_seconds": 5})]).hash != made.hash

    here = dict.fromkeys(("environment", "criticality"), "development")
    for plan, level in ((made, 2), (not_asked, 0)):
        document: dict[str, Any] = {**plan.document, "environment": None}
        (one,) = document["steps"]
        document["steps"] = [{**one, "targets": [{**target, **here} for target in one["targets"]]}]
        assert approval_level(risk_of(document, "modify")) == level
    points = points_to_approve(made.document, 2)
    assert points == [Point(asked["id"], wave) for wave in range(2, len(asked["waves"]) + 1)]
    assert points_to_approve(not_asked.document, 2) == []
    alone = compiled([step(targets=["web-1"], fan_out={"waves": True, "gate": gate})])
    assert points_to_approve(alone.document, 2) == [], "one wave has no gate"


def test_pauses_and_waves_are_in_the_estimate_and_in_the_time_limit() -> None:
    inventory = MemoryInventory()
    some = inventory.assets[0]
    inventory.assets = [
        InventoryAsset(n, f"m{n}", None, None, "local", "development", some.criticality) for n in range(1, 11)
    ]
    one = step(
        targets=[f"m{n}" for n in range(1, 11)],
        timeout_seconds=10,
        estimated_duration=5,
        fan_out={"max_concurrent": 4, "waves": [1, 4, "rest"], "gate": {"pause_seconds": 60}},
    )
    plan = compiled([one], inventory=inventory)
    assert plan.document["steps"][0]["waves"] == [1, 4, 5]
    assert plan.estimated_seconds == (1 + 1 + 2) * 5 + 2 * 60
    assert needed_seconds(plan.document["steps"], None) == (1 + 1 + 2) * 10 + 2 * 60  # type: ignore[arg-type]


def test_a_retry_on_fewer_machines_has_waves_of_its_own() -> None:
    first = stored(waves=[1, "50%"])
    again = step(targets=[str(first["targets"][0]["asset_id"])], fan_out=first["fan_out"])
    (made,) = steps(again)
    assert made["fan_out"] == first["fan_out"]
    assert made["waves"] == [1]
