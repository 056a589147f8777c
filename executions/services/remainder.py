"""What of an execution's plan is left to do: the steps that did not succeed, or were undone, on the hosts where that is
so."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from executions.models import ROLLBACK, Execution, Step, StepTarget
from executions.plans.templates import Template, templates_in
from executions.services.refusals import Refused
from executions.states import StepStatus
from executions.tally import is_unreachable

S = StepStatus

ONLY = ("unreachable", "failed")
MOST_NAMED = 5


def remainder(old: Execution, *, hosts: Collection[str] = (), only: str = "") -> dict[str, Any]:
    """Return the part of an ended execution's compiled plan that is to be done once more: also what was undone.

    hosts, only: no other hosts than these (by name), or than those that were unreachable or failed. A step that has
    succeeded although some of its hosts failed is left to do on those.
    Raises Refused: nothing_to_retry, output_not_repeated, step_left_out (409), invalid_input (422).
    """
    document: dict[str, Any] = copy.deepcopy(old.plan.document)
    rows = list(old.steps.prefetch_related("targets").order_by("position"))
    steps = [step for step in rows if step.kind != ROLLBACK]
    undone = _undone(rows)
    wanted = _wanted([target for step in steps for target in step.targets.all()], hosts, only)
    done: set[str] = set()
    left_out: set[str] = set()
    left: list[dict[str, Any]] = []
    for step in steps:
        planned = document["steps"][step.position - 1]
        open_targets = _open_targets(step, undone.get(step.key, set()), wanted)
        if _is_done(step, planned, undone):
            done.add(step.key)
        elif planned["targets"] and not open_targets:
            left_out.add(step.key)
        else:
            planned["among"] = [target["asset_id"] for target in planned["targets"]]
            planned["targets"] = [target for target in planned["targets"] if target["asset_id"] in open_targets]
            left.append(planned)
    if not left:
        raise _nothing_left(old, narrowed=wanted is not None)
    repeated = {step["id"]: step for step in left}
    needs = {step["id"]: tuple(step["depends_on"]) for step in document["steps"]}
    for planned in left:
        _refuse_without(planned, left_out, document)
        _refuse_lost_output(planned, done, repeated)
        planned["depends_on"] = sorted(_still_needed(planned["depends_on"], needs, repeated))
    document["steps"] = left
    return document


def _still_needed(keys: Collection[str], needs: Mapping[str, Collection[str]], repeated: Collection[str]) -> set[str]:
    """Return what a step waits for: in place of what is not repeated, what that waited for. So the order stays."""
    found: set[str] = set()
    seen: set[str] = set()
    waiting = list(keys)
    while waiting:
        key = waiting.pop()
        if key in repeated:
            found.add(key)
        elif key not in seen:
            seen.add(key)
            waiting += needs[key]
    return found


def _undone(rows: Sequence[Step]) -> dict[str, set[int | None]]:
    """Return by step the assets where it was undone, or that was tried: what it did there does not stand any more."""
    undone: dict[str, set[int | None]] = {}
    for step in rows:
        if step.kind == ROLLBACK and (tried := {target.asset_id for target in step.targets.all() if target.attempt}):
            undone.setdefault(step.key, set()).update(tried)
    return undone


def _is_done(step: Step, planned: Mapping[str, Any], undone: Mapping[str, set[int | None]]) -> bool:
    """Whether nothing of a step is left to do, on any host."""
    if planned.get("unchecked"):  # check mode would skip it once more
        return True
    if step.status != S.SUCCEEDED or step.key in undone:
        return False
    return len(planned["targets"]) < 2 or all(target.status == S.SUCCEEDED for target in step.targets.all())


def _open_targets(step: Step, undone: Collection[int | None], wanted: Collection[int | None] | None) -> set[int | None]:
    """Return the assets on which a step did not succeed, or was undone, as far as they are wanted."""
    left = {target.asset_id for target in step.targets.all() if target.status != S.SUCCEEDED} | set(undone)
    return left if wanted is None else left & set(wanted)


def _wanted(targets: Sequence[StepTarget], hosts: Collection[str], only: str) -> set[int | None] | None:
    """Return the assets that are to be tried again; None when nobody chose."""
    if only and only not in ONLY:
        raise Refused(
            "invalid_input", f"'{only}' says nothing of hosts.", f"Say one of: {', '.join(ONLY)}.", status=422
        )
    unknown = sorted(set(hosts) - {target.name for target in targets})
    if unknown:
        named = ", ".join(unknown[:MOST_NAMED]) + (", ..." if len(unknown) > MOST_NAMED else "")
        raise Refused(
            "invalid_input", f"No step of it ran on {named}.", "Name hosts as its page and its steps do.", status=422
        )
    wanted: set[int | None] | None = None
    if only:
        wanted = {target.asset_id for target in targets if _is_meant(target, only)}
    if hosts:
        named_ones = {target.asset_id for target in targets if target.name in hosts}
        wanted = named_ones if wanted is None else wanted & named_ones
    return wanted


def _is_meant(target: StepTarget, only: str) -> bool:
    away = is_unreachable(target.status, target.error_code)
    return away if only == "unreachable" else not away and target.status in (S.FAILED, S.TIMED_OUT)


def _nothing_left(old: Execution, *, narrowed: bool) -> Refused:
    if narrowed:
        return Refused(
            "nothing_to_retry",
            f"On these hosts nothing of execution {old.pk} is left to do.",
            "Choose others, or retry all that is left.",
            status=409,
        )
    return Refused(
        "nothing_to_retry",
        f"Every step of execution {old.pk} succeeded.",
        "Retry it from the start, or submit the plan again.",
        status=409,
    )


def _refuse_without(step: Mapping[str, Any], left_out: Collection[str], document: Mapping[str, Any]) -> None:
    """Refuse to run a step without one that it waits for, because that one is on none of the chosen hosts."""
    optional = {planned["id"] for planned in document["steps"] if planned["on_failure"] == "continue"}
    missing = [key for key in step["depends_on"] if key in left_out and key not in optional]
    if missing:
        raise Refused(
            "step_left_out",
            f"Step '{step['id']}' waits for '{missing[0]}', which did not succeed and is on none of the chosen hosts.",
            "Choose hosts of both steps, or retry all that is left.",
            status=409,
        )


def _refuse_lost_output(
    step: Mapping[str, Any], done: Collection[str], repeated: Mapping[str, Mapping[str, Any]]
) -> None:
    """Refuse to go on with a step that takes the output of one that is not run again where it is needed."""
    undo = step["rollback"]["inputs"] if step.get("rollback") else {}
    for _, template in (*templates_in(step["inputs"]), *templates_in(undo)):
        if not isinstance(template, Template) or template.kind != "output" or template.step_id is None:
            continue
        source = template.step_id
        if source in done:
            raise Refused(
                "output_not_repeated",
                f"Step '{step['id']}' takes the output of '{source}', which succeeded and is not run again.",
                "Retry the execution from the start.",
                status=409,
            )
        if source in repeated and (lost := _lost(step, repeated[source])):
            raise Refused(
                "output_not_repeated",
                f"Step '{step['id']}' takes the output of '{source}', which is not run again on {lost}.",
                "Choose the hosts on which both are left to do, or retry the execution from the start.",
                status=409,
            )


def _lost(step: Mapping[str, Any], source: Mapping[str, Any]) -> str:
    """Return the name of a host whose output of `source` a step needs and will not get; empty when it gets all."""
    if len(source["among"]) < 2:
        return ""
    lost = set(source["among"]) - {target["asset_id"] for target in source["targets"]}
    return next((target["name"] for target in step["targets"] if target["asset_id"] in lost), "")
