"""What undoes each step: its own `rollback`, or an entry of the rollback_plan that names a tool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from executions.plans import vocabulary
from executions.plans.about import About, rollback_action
from executions.plans.behaviour import read_behaviour
from executions.plans.compiled import StoredRollback
from executions.plans.fields import Fields, under_our_names
from executions.plans.inputs import check_inputs
from executions.plans.problems import Code, Problems, did_you_mean, shown
from executions.plans.steps import Draft, RollbackDraft, as_id, find_tool, read_inputs

if TYPE_CHECKING:
    from executions.tools import Catalog

# What a rollback can say of itself. Where, when and how many at once is that of its step.
_FIELDS = ("tool", "inputs", "description", "retry", "timeout_seconds", "idempotent", "success")
_NAMES = tuple(name for ours in _FIELDS for name in vocabulary.STEP_FIELDS[ours])
_EXAMPLE = "{tool: command, inputs: {argv: [...]}}"


def read_rollbacks(drafts: Sequence[Draft], about: About, catalog: Catalog, problems: Problems) -> None:
    """Read what undoes each step; what is wrong is noted. What a step says itself wins over the rollback_plan."""
    for draft in drafts:
        said = draft.said_rollback
        if isinstance(said, str) and said.strip():
            draft.not_checked.append(f"Rollback, in words only: {shown(said, 300)}")
        elif vocabulary.is_given(said):
            draft.rollback = _read(Fields({"rollback": said}, draft.path, problems), "rollback", draft, catalog)
    by_id = {draft.id: draft for draft in drafts}
    planned: dict[str, str] = {}
    for at, item in enumerate(about.rollback_plan):
        action = rollback_action(item)
        if action is None or not isinstance(item, Mapping):
            continue  # prose: among what nobody checks
        fields = Fields({"rollback_action": action}, f"rollback_plan[{at}]", problems)
        step = _step_of(item.get("step_id"), fields, by_id)
        if step is None:
            continue
        if step.id in planned:
            fields.wrong("step_id", f"{planned[step.id]} undoes the same step.", "Keep one of the two.")
            continue
        planned[step.id] = fields.path
        found = _read(fields, "rollback_action", step, catalog)
        if not vocabulary.is_given(step.said_rollback):
            step.rollback = found


def _step_of(step_id: object, fields: Fields, by_id: Mapping[str, Draft]) -> Draft | None:
    named = as_id(step_id) or ""
    if named in by_id:
        return by_id[named]
    near = did_you_mean(fields.problems.near(named, by_id))
    fields.problems.add(
        Code.UNKNOWN_DEPENDENCY,
        fields.at("step_id"),
        f"No step has the id {shown(named or 'that is given here')!r}.",
        f"{near}Name the step that is to be undone by its id.",
    )
    return None


def _read(fields: Fields, name: str, draft: Draft, catalog: Catalog) -> RollbackDraft | None:
    part = fields.part(name, _NAMES, _EXAMPLE)
    if part is None:
        return None
    values, _ = under_our_names(part.values, vocabulary.STEP_NAMES, vocabulary.STEP_FIELDS)
    ours = Fields({key: value for key, value in values.items() if key in _FIELDS}, part.path, fields.problems)
    tool = find_tool(values.get("tool"), part.path, catalog, fields.problems)
    inputs = read_inputs(ours, part.values)
    behaviour = read_behaviour(ours)
    if tool is None:
        return None
    checked = check_inputs(tool, inputs, f"{part.path}.inputs", draft.secret_refs, fields.problems)
    return RollbackDraft(part.path, tool, checked, behaviour)


def check_rollbacks(drafts: Sequence[Draft], problems: Problems) -> None:
    """Refuse a rollback that needs a machine where its step has none."""
    for draft in drafts:
        rollback = draft.rollback
        if rollback is not None and rollback.tool.needs_target and not draft.targets and not draft.targets_failed:
            problems.add(
                Code.MISSING_TARGET,
                rollback.path,
                f"The tool {rollback.tool.name} of the rollback acts on a machine, and the step names none.",
                "Give the step targets: its rollback runs on the same ones.",
            )


def stored_rollback(rollback: RollbackDraft | None) -> StoredRollback | None:
    """Return a rollback as it is stored with its step."""
    if rollback is None:
        return None
    tool, inputs, behaviour = rollback.tool, rollback.inputs, rollback.behaviour
    stored: StoredRollback = {
        "tool": tool.name,
        "inputs": inputs,
        "action_class": tool.action_class_for(inputs),
        "retry": behaviour.retry,
        "timeout_seconds": behaviour.timeout_seconds,
        "idempotent": tool.idempotent_for(inputs) if behaviour.idempotent is None else behaviour.idempotent,
        "success": behaviour.success,
        "estimated_duration": float(tool.estimated_duration_for(inputs)),
        "max_output_bytes": tool.max_output_bytes,
    }
    if rollback.files is not None:
        stored["files"] = rollback.files
    return stored
