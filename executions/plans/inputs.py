"""The inputs of a step or rollback: secrets, placeholders, what is really said about the step, and the tool's check."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from django.conf import settings

from executions.connectors.ansible.playbooks import NoPlaybook, find_playbook
from executions.plans import vocabulary
from executions.plans.placeholders import placeholder_in
from executions.plans.problems import Code, Problems, overlap, shown
from executions.plans.secret_values import HOW_TO_FIX, SecretReference, is_reference, read_reference, secrets_in
from executions.plans.templates import BadTemplate, templates_in

if TYPE_CHECKING:
    from executions.tools import Tool

KNOWN_TEMPLATES = (
    "Known are fields of the target such as {{ hostname }}, {{ assets[0].hostname }} after an asset-query, and "
    '{{ steps.ID.stdout }}; write {{ "{{" }} for braces that mean themselves.'
)


def take_step_fields(inputs: dict[str, Any], tool: Tool | None, values: dict[str, object]) -> None:
    """Move what inputs say about the step (target_host, timeout, ...) to the step, unless the tool takes it itself."""
    if inputs.keys().isdisjoint(vocabulary.NAMES_AMONG_INPUTS):
        return
    for name, ours in vocabulary.NAMES_AMONG_INPUTS.items():
        if name not in inputs or (tool is not None and tool.accepts(name)):
            continue
        value = inputs.pop(name)
        if not vocabulary.is_given(values.get(ours)):
            values[ours] = value


def check_inputs(
    tool: Tool, inputs: dict[str, Any], path: str, secret_refs: set[SecretReference], problems: Problems
) -> dict[str, Any]:
    """Return the inputs normalised by the tool, noting everything wrong with them.

    A value that is a secret in clear or a placeholder is reported as that alone, not also as a wrong input.
    """
    faulty: list[str] = []
    for where, what in secrets_in(inputs):
        if placeholder_at(inputs, where):
            continue
        faulty.append(f"{path}{where}")
        problems.add(Code.PLAINTEXT_SECRET, f"{path}{where}", f"It holds {what} in clear.", HOW_TO_FIX)
    for where, value in _leaves(inputs):
        if isinstance(value, Mapping):
            if not _take_reference(value, f"{path}{where}", secret_refs, problems) or not _may_be_secret(
                tool, where, path, problems
            ):
                faulty.append(f"{path}{where}")
        elif found := placeholder_in(value):
            faulty.append(f"{path}{where}")
            problems.add(
                Code.UNRESOLVED_PLACEHOLDER,
                f"{path}{where}",
                f"{shown(found)} is a placeholder that nobody filled in.",
                "Write the value itself.",
            )
    faulty += _bad_templates(inputs, path, problems)
    checked, wrong = tool.check(inputs)
    for problem in wrong:
        at = f"{path}.{problem.path}" if problem.path and problem.path[0] != "[" else f"{path}{problem.path}"
        if not any(overlap(one, at) for one in faulty):
            problems.add(Code.INVALID_INPUT, at, _sentence(at, path, problem.message), problem.how_to_fix)
    _look_for_playbooks(tool, checked, path, problems)
    return checked


def _look_for_playbooks(tool: Tool, checked: Mapping[str, Any], path: str, problems: Problems) -> None:
    """A playbook that is not there is told of now, not when the step comes to it."""
    for name, value in checked.items():
        parameter = tool.parameter(name)
        if parameter is None or parameter.type != "playbook":
            continue
        try:
            find_playbook(settings.ANSIBLE_PLAYBOOKS, value)
        except NoPlaybook as problem:
            at = f"{path}.{name}"
            problems.add(Code.INVALID_INPUT, at, _sentence(at, path, problem.message), problem.how_to_fix)


def placeholder_at(inputs: Mapping[str, Any], where: str) -> bool:
    """Whether the text at `.name` directly within the inputs is a placeholder, which says more than 'a secret'."""
    value = inputs.get(where[1:])
    return isinstance(value, str) and placeholder_in(value) is not None


def _bad_templates(inputs: dict[str, Any], path: str, problems: Problems) -> list[str]:
    faulty = []
    for where, template in templates_in(inputs):
        if isinstance(template, BadTemplate):
            faulty.append(f"{path}{where}")
            problems.add(
                Code.UNRESOLVED_PLACEHOLDER,
                f"{path}{where}",
                f"{{{{ {shown(str(template))} }}}} is not a template.",
                KNOWN_TEMPLATES,
            )
    return faulty


def _take_reference(
    value: Mapping[str, object], path: str, secret_refs: set[SecretReference], problems: Problems
) -> bool:
    try:
        secret_refs.add(read_reference(value))
    except ValueError as error:
        problems.add(
            Code.INVALID_INPUT, path, str(error), 'Write {"type": "secret", "path": "db/orders", "key": "password"}.'
        )
        return False
    return True


def _may_be_secret(tool: Tool, where: str, path: str, problems: Problems) -> bool:
    """Whether a secret can stand in this input. On a command line every user of the machine could read it."""
    parameter = tool.parameter(_first_name(where))
    if parameter is None or not parameter.in_argv:
        return True  # an input that is not there, or that takes no text, is told of by the tool
    ways = tool.ways_for_secrets()
    problems.add(
        Code.INVALID_INPUT,
        f"{path}{where}",
        f"{shown(parameter.name)} becomes part of a command line, which every user of the machine can read.",
        f"Give the secret through {' or '.join(ways)}." if ways else "Use a tool that takes it by standard input.",
    )
    return False


def _first_name(where: str) -> str:
    """The input in a path such as `.argv[2]` or `.headers.Authorization`."""
    return re.split(r"[.\[]", where[1:], maxsplit=1)[0]


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every text, and every secret reference, with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        if is_reference(value):
            yield path, value
            return
        for key, item in value.items():
            if type(item) is str:
                yield f"{path}.{key}", item
            else:
                yield from _leaves(item, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}[{index}]")


def _sentence(at: str, path: str, message: str) -> str:
    """`service is missing.`: a tool's message begins after the name of the input."""
    subject = at[len(path) + 1 :] or "inputs"
    text = f"{shown(subject)} {message}"
    return text if text.endswith(".") else f"{text}."
