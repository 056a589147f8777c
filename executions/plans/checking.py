"""Check mode: what every step of a plan becomes when the plan is to say what it would change, and to change nothing.

A step that only reads is run as it is. One that changes something is run in its tool's check mode, which reads; so the
plan asks for the rights, the locks and the approvals of reading. Two things are graver also then: what is done as
another user, and what the tool's check mode cannot answer for. What can be neither run nor checked is skipped and
named: a check must not look more complete than it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from executions.plans.behaviour import exit_code_zero
from executions.plans.compiled import ActionClass
from executions.plans.problems import Code, Problems, shown
from executions.plans.run_as import graver_as
from executions.plans.templates import Template, templates_in

if TYPE_CHECKING:
    from executions.plans.steps import Draft

TITLE = "Check mode: "
_TOUCHES_NOTHING = "none"  # the connector of noop and wait, which no check is about


def check_title(title: str, *, check: bool, problems: Problems) -> None:
    """Refuse a title by which a plan that changes things would look like a check of one."""
    if not check and title.lower().startswith(TITLE.strip(" :").lower()):
        problems.add(
            Code.INVALID_INPUT,
            "title",
            "The title begins with 'Check mode', and the plan would really be carried out.",
            "Write check: true if it is to be checked only; otherwise choose another title.",
        )


def put_into_check_mode(drafts: Sequence[Draft], problems: Problems) -> dict[str, str]:
    """Make of each step what it is in check mode; `drafts` are in their order.

    Returns, by the id of a step, why it is not checked. A plan of which nothing can be checked is refused.
    """
    unchecked: dict[str, str] = {}
    made_up: set[str] = set()  # steps whose output is not what the real step would print
    for draft in drafts:
        tool = draft.tool
        if tool is None:
            continue
        reads = tool.action_class_for(draft.inputs) == "read"
        source = _taken_from(draft) & made_up
        if source:
            name = shown(min(source))
            unchecked[draft.id] = f"It takes the output of step {name!r}, which check mode does not really run."
        elif not tool.has_check_for(draft.inputs):
            unchecked[draft.id] = f"The tool {tool.name} cannot say what it would change{_with(draft)}."
        if draft.id in unchecked or not reads:
            made_up.add(draft.id)
        may_do: ActionClass = "read" if draft.id in unchecked else tool.class_in_check_mode_for(draft.inputs)
        draft.action_class = may_do if draft.id in unchecked else graver_as(draft.behaviour.run_as, may_do)
        _only_look(draft, as_it_is=reads, reads=may_do == "read")
    if drafts and not any(draft.id not in unchecked and _looks_at_something(draft) for draft in drafts):
        problems.add(
            Code.INVALID_INPUT,
            "check",
            "Nothing of this plan can be checked: no step has a tool with a check mode, or one that only reads.",
            "Leave check out, and look at the preview instead.",
        )
    return unchecked


def _only_look(draft: Draft, *, as_it_is: bool, reads: bool) -> None:
    """`as_it_is`: the real step reads; `reads`: so does its check."""
    behaviour = draft.behaviour
    draft.rollback = None  # there is nothing to undo
    if behaviour.on_failure == "rollback":
        behaviour.on_failure = "stop"
    if as_it_is:
        return
    if reads:
        behaviour.idempotent = True
    if draft.action_class == "read":
        behaviour.requires_approval = False
        if "gate" in behaviour.fan_out:
            behaviour.fan_out["gate"].pop("approval", None)
    if behaviour.success != exit_code_zero():
        draft.not_checked.append("Its success criteria are about the real run; for the check exit code 0 counts.")
        behaviour.success = exit_code_zero()


def _taken_from(draft: Draft) -> set[str]:
    return {
        template.step_id
        for _, template in templates_in(draft.inputs)
        if isinstance(template, Template) and template.kind == "output" and template.step_id is not None
    }


def _with(draft: Draft) -> str:
    tool = draft.tool
    return f" with {tool.by} {draft.inputs.get(tool.by)}" if tool is not None and tool.by else ""


def _looks_at_something(draft: Draft) -> bool:
    return draft.tool is not None and draft.tool.connector != _TOUCHES_NOTHING
