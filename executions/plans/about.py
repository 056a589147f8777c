"""What a plan says about itself as a whole: title, environment, labels, and what is there for people to read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from executions.plans import vocabulary
from executions.plans.fields import Fields, meant, under_our_names
from executions.plans.problems import Code, Problems, did_you_mean, shown
from executions.plans.steps import as_id, in_words, look_for_secrets

if TYPE_CHECKING:
    from executions.plans.steps import Draft

LONGEST_TITLE = 200
MOST_LABELS = 64
MOST_NOTES = 200


# What may stand around the inner plan. Left out there, a wish to only check would carry the plan out.
_AROUND = ("title", "environment", "labels", *vocabulary.PLAN_FIELDS["check"])


@dataclass(slots=True)
class About:
    title: str = ""
    environment: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    check: bool = False
    safety_checks: list[object] = field(default_factory=list)
    rollback_plan: list[object] = field(default_factory=list)
    observability: dict[str, object] = field(default_factory=dict)
    metadata: list[Mapping[str, object]] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)


def split_document(document: object) -> tuple[Mapping[str, object], list[Mapping[str, object]], bool]:
    """Find the inner plan: (plan, every execution_metadata on the way to it, whether it is a plan at all).

    Takes the planner's whole document, its inner plan, and a bare list of steps.
    """
    metadata: list[Mapping[str, object]] = []
    if isinstance(document, list):
        return {"steps": document}, metadata, True
    for _ in range(3):
        if not isinstance(document, Mapping):
            return {}, metadata, document is None
        found = document.get("execution_metadata")
        if isinstance(found, Mapping):
            metadata.append(found)
        if "steps" in document or not isinstance(document.get("plan"), (Mapping, list)):
            return document, metadata, True
        inner = document["plan"]
        outer = {name: document[name] for name in _AROUND if vocabulary.is_given(document.get(name))}
        document = {"steps": inner, **outer} if isinstance(inner, list) else {**outer, **_given(inner, outer)}
    return document if isinstance(document, Mapping) else {}, metadata, True


def _given(inner: object, outer: Mapping[str, object]) -> dict[str, object]:
    """The inner plan, without the empty fields that the document around it fills."""
    if not isinstance(inner, Mapping):
        return {}
    return {name: value for name, value in inner.items() if name not in outer or vocabulary.is_given(value)}


def read_about(plan: Mapping[str, object], metadata: list[Mapping[str, object]], problems: Problems) -> About:
    """Read everything but the steps; what is wrong is noted."""
    values, unknown = under_our_names(plan, vocabulary.PLAN_NAMES, vocabulary.PLAN_FIELDS)
    fields = Fields(values, "", problems)
    _tell_unknown(plan, unknown, problems)
    about = About(metadata=metadata)
    about.title = " ".join(fields.text("title", LONGEST_TITLE).split())
    about.environment = fields.text("environment", 30).lower() or None
    about.labels = _labels(fields)
    about.check = fields.flag("check") or False
    for name in ("safety_checks", "rollback_plan"):
        value = values.get(name)
        items = value if isinstance(value, list) else [value]
        setattr(about, name, [item for item in items if vocabulary.is_given(item)])
    observability = values.get("observability")
    if isinstance(observability, Mapping):
        about.observability = {name: item for name, item in observability.items() if vocabulary.is_given(item)}
    about.not_checked = list(_notes(about))[:MOST_NOTES]
    if about.rollback_plan:
        # Those that name a tool are looked through with it (rollbacks.py), like the inputs of a step.
        values["rollback_plan"] = [None if rollback_action(item) else item for item in about.rollback_plan]
    look_for_secrets(values | {name: plan[name] for name in unknown}, "", problems, apart_from=("steps",))
    return about


def look_around(document: object, problems: Problems) -> None:
    """Look for secrets in what stands around the inner plan, of which nothing else is read."""
    for _ in range(3):
        if not isinstance(document, Mapping) or "steps" in document or "plan" not in document:
            return
        look_for_secrets(document, "", problems, apart_from=("plan",))
        document = document["plan"]


def _tell_unknown(plan: Mapping[str, object], unknown: list[str], problems: Problems) -> None:
    """A planner's document has much that we need not know, but not what is misspelled or would change what is done."""
    for name in unknown:
        if not vocabulary.is_given(plan[name]):
            continue
        if name in vocabulary.OF_A_STEP_ALONE:
            problems.add(
                Code.INVALID_INPUT, name, f"A plan has no field {name!r}.", f"Write {name} in each step that it is for."
            )
        elif near := meant(name, vocabulary.PLAN_NAMES, problems):
            problems.add(
                Code.INVALID_INPUT,
                shown(name),
                f"A plan has no field {shown(name)!r}.",
                did_you_mean(near).strip(),
            )


def rollback_action(item: object) -> Mapping[str, object] | None:
    """Return what an entry of the rollback_plan does, when it names a tool, as an object or as JSON; None for prose."""
    action = item.get("rollback_action") if isinstance(item, Mapping) else None
    if isinstance(action, str) and action.lstrip().startswith("{"):
        try:
            action = json.loads(action)
        except ValueError:
            return None
    if not isinstance(action, Mapping) or not any(action.get(name) for name in vocabulary.STEP_FIELDS["tool"]):
        return None
    return action


def _labels(fields: Fields) -> dict[str, str]:
    value = fields.values.get("labels")
    if not vocabulary.is_given(value):
        return {}
    if not isinstance(value, Mapping) or len(value) > MOST_LABELS:
        fields.wrong("labels", f"labels must be an object of at most {MOST_LABELS} names.", "Write {team: payments}.")
        return {}
    labels: dict[str, str] = {}
    inner = Fields(value, "labels", fields.problems)
    for name, label in value.items():
        if isinstance(label, bool):
            labels[name] = "true" if label else "false"
        else:
            labels[name] = inner.text(name, 500)
    return labels


def _notes(about: About) -> Iterator[str]:
    """Sentences about what only people can judge."""
    for check in about.safety_checks:
        if isinstance(check, Mapping):
            stage = in_words(check.get("stage") or "before", 20)
            then = in_words(check.get("failure_action") or "abort", 20)
            yield f"Safety check {stage} (then {then}): {in_words(check.get('check') or check)}"
        else:
            yield f"Safety check: {in_words(check)}"
    for item in about.rollback_plan:
        if rollback_action(item) is not None:
            continue
        if isinstance(item, Mapping) and item.get("rollback_action"):
            yield f"Rollback of {in_words(item.get('step_id') or 'the plan', 100)}: {in_words(item['rollback_action'])}"
        else:
            yield f"Rollback: {in_words(item)}"
    for metadata in about.metadata:
        risks = metadata.get("risk_factors")
        for risk in risks if isinstance(risks, list) else []:
            if vocabulary.is_given(risk):
                yield f"Risk named by the planner: {in_words(risk)}"


def apply_approval_points(drafts: Sequence[Draft], about: About, problems: Problems) -> None:
    """Make the steps that approval_points name ask for approval; a point that names no step is not left out."""
    by_id = {draft.id: draft for draft in drafts}
    for metadata in about.metadata:
        points = metadata.get("approval_points")
        if not vocabulary.is_given(points):
            continue
        for at, point in enumerate(points if isinstance(points, list) else [points]):
            if not vocabulary.is_given(point):
                continue
            step_id = as_id(point)
            if step_id in by_id:
                by_id[step_id].behaviour.requires_approval = True
                continue
            near = did_you_mean(problems.near(step_id or "", by_id))
            problems.add(
                Code.UNKNOWN_DEPENDENCY,
                f"execution_metadata.approval_points[{at}]",
                f"No step has the id {shown(step_id or 'that is given here')!r}.",
                f"{near}Name a step of this plan by its id.",
            )
