"""Whatever changes something, at any door, and whoever is refused, leaves a record: tried at every endpoint there is.

What is sent is what the permission matrix sends. An endpoint, an action or a verb that is added is tried by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from inspect import isfunction

import pytest

from executions import services
from tests.safety.permission_table import ACTIONS
from tests.safety.permission_walk import Answer, ask
from tests.safety.permission_world import World, make_world
from tests.safety.test_permission_matrix import routes

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(600)]

# Verbs that only look, or go on with what start_batch recorded, or ask another verb for each.
RECORD_NOTHING = {"preview", "free_within_seconds", "carry_out", "work_at_batches", "cancel_many"}
# They name the step in their records, and so write them themselves; the endpoints show that they do.
DECISIONS = {"approve", "reject", "withdraw_approval"}


@pytest.fixture
def world(db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr("executions.live.host_key_looks.PATIENCE_SECONDS", 0.0)  # no worker is there to wait for
    logging.disable(logging.CRITICAL)
    yield make_world()
    logging.disable(logging.NOTSET)


def faults(answer: Answer) -> Iterator[str]:
    if answer.wrote and not any(allowed for _, allowed in answer.recorded):
        yield f"rows were written, and no record says so; there are {answer.recorded}"
    if answer.outcome == "403" and all(allowed for _, allowed in answer.recorded):
        yield "it was refused, and no record says so"
    if answer.outcome == "403" and any(allowed for _, allowed in answer.recorded):
        yield f"it was refused, and a record says that it was done: {answer.recorded}"


@pytest.mark.parametrize("who", ["root", "operator", "granted", "viewer"])
def test_every_change_and_every_refusal_at_any_endpoint_leaves_a_record(world: World, who: str) -> None:
    wrong = []
    changed = refused = 0
    for method, route in routes():
        if method == "GET":
            continue
        answer = ask(world, who, method, route)
        changed += answer.wrote
        refused += answer.outcome == "403"
        wrong += [f"{method} {route} by {who}: {fault}" for fault in faults(answer)]
    assert wrong == [], "\n".join(wrong)
    assert changed if who != "viewer" else refused


def test_every_action_of_the_admin_leaves_a_record(world: World) -> None:
    wrong = []
    for model, action in ACTIONS:
        route = f"admin/{model}/"
        chosen = world.ids(f"{route}<path:object_id>/change/", world.home)["object_id"]
        form = {"action": action, "_selected_action": chosen, "reason": "audit", "post": "yes", "index": "0"}
        for who in ("root", "operator"):
            answer = ask(world, who, "POST", route, form=form)
            wrong += [f"{action} of {model} by {who}: {fault}" for fault in faults(answer)]
    assert wrong == [], "\n".join(wrong)


def test_every_verb_has_its_refusals_recorded() -> None:
    verbs = {name for name in services.__all__ if isfunction(getattr(services, name))}
    silent = {name for name in verbs - RECORD_NOTHING - DECISIONS if not hasattr(getattr(services, name), "audits")}
    assert silent == set()
