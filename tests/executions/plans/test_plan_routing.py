"""Which workers a plan is for: pool and region from its labels, the region else from where its targets are."""

from __future__ import annotations

import pytest

from tests.executions.plans.compiling import compiled, refused, step, told
from tests.executions.plans.memory_inventory import LOCALHOST, MemoryInventory, asset

HERE = asset(2, "here", tags=("region:eu-1", "web"))
ALSO_HERE = asset(3, "also-here", tags=("region:eu-1",))
THERE = asset(4, "there", tags=("region:us-2",))
MOVED = asset(5, "moved", tags=("region:eu-1", "region:us-2"))
INVENTORY = MemoryInventory([LOCALHOST, HERE, ALSO_HERE, THERE, MOVED])


def routed(*targets: str, labels: dict[str, object] | None = None) -> tuple[str, str]:
    document = compiled(
        {"steps": [step("ps", targets=list(targets))], **({"labels": labels} if labels else {})}, inventory=INVENTORY
    ).document
    return document["pool"], document["region"]


def test_a_plan_that_says_nothing_is_for_the_default_pool_and_any_region() -> None:
    assert routed("localhost") == ("default", "")


def test_targets_in_one_region_need_the_workers_of_that_region() -> None:
    assert routed("here", "also-here") == ("default", "eu-1")
    assert routed("here", "localhost") == ("default", "eu-1"), "an asset without a region is reached from everywhere"


def test_labels_name_the_pool_and_win_over_where_the_targets_are() -> None:
    assert routed("localhost", labels={"pool": "heavy", "region": "eu-9", "team": "any text"}) == ("heavy", "eu-9")
    assert routed("here", "there", labels={"region": "backbone"}) == ("default", "backbone")


@pytest.mark.parametrize("targets", [["here", "there"], ["moved"]])
def test_targets_in_several_regions_are_refused_and_never_guessed(targets: list[str]) -> None:
    (problem,) = refused({"steps": [step("ps", targets=targets)]}, inventory=INVENTORY)
    assert (problem.code, problem.path) == ("invalid_input", "labels.region")
    assert "'eu-1', 'us-2'" in problem.message or "eu-1, us-2" in problem.message
    assert "labels: {region: NAME}" in problem.how_to_fix


def test_a_tag_that_names_no_region_is_refused_before_anything_is_stored() -> None:
    lost = MemoryInventory([LOCALHOST, asset(2, "lost", tags=(f"region:{'x' * 64}",))])
    assert told({"steps": [step("ps", targets=["lost"])]}, inventory=lost) == [("invalid_input", "labels.region")]


@pytest.mark.parametrize("name", ["Heavy", "a b", "", "x" * 64, "-x", "x.", "*", "é"])
def test_a_name_that_no_worker_could_serve_is_refused(name: str) -> None:
    plan = {"steps": [step()], "labels": {"pool": name}}
    assert ("invalid_input", "labels.pool") in told(plan)


def test_labels_are_no_part_of_what_a_plan_does() -> None:
    assert compiled({"steps": [step()]}).hash == compiled({"steps": [step()], "labels": {"pool": "heavy"}}).hash
