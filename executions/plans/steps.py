"""One step of a plan, read by itself: its tool, its inputs, and what it says about how to run it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from executions.connectors.ansible.contents import StoredFiles
from executions.connectors.registry import connections
from executions.plans import vocabulary
from executions.plans.behaviour import Behaviour, read_behaviour
from executions.plans.compiled import ActionClass
from executions.plans.fields import Fields, as_number, told_about_unknown, under_our_names
from executions.plans.inputs import check_inputs, take_step_fields
from executions.plans.inventory import InventoryAsset
from executions.plans.problems import Code, Problems, did_you_mean, shown
from executions.plans.secret_values import HOW_TO_FIX, SecretReference, secrets_in

if TYPE_CHECKING:
    from executions.tools import Catalog, Tool

LONGEST_ID = 200
LONGEST_DESCRIPTION = 2000
LONGEST_ESTIMATE = 7 * 86_400.0


@dataclass(slots=True)
class RollbackDraft:
    """`path` is where the plan says it: in the step, or in its rollback_plan."""

    path: str
    tool: Tool
    inputs: dict[str, Any]
    behaviour: Behaviour = field(default_factory=Behaviour)
    files: StoredFiles | None = None


@dataclass(slots=True)
class Draft:
    """A step between reading and assembling. `index` is its place in the caller's list, from 0."""

    index: int
    path: str
    id: str = ""
    description: str = ""
    tool: Tool | None = None
    inputs: dict[str, Any] = field(default_factory=dict)
    action_class: ActionClass = "read"
    depends_on: list[str] = field(default_factory=list)
    execution_order: float | None = None
    target_refs: list[tuple[str, object]] = field(default_factory=list)  # (path, what was written)
    connection_type: str | None = None
    estimated_duration: float | None = None
    behaviour: Behaviour = field(default_factory=Behaviour)
    said_rollback: object = None  # as it was written
    rollback: RollbackDraft | None = None
    not_checked: list[str] = field(default_factory=list)
    secret_refs: set[SecretReference] = field(default_factory=set)
    # Filled in by the later stages.
    targets: list[tuple[InventoryAsset, dict[str, object]]] = field(default_factory=list)
    resolved: dict[str, object] = field(default_factory=dict)
    targets_failed: bool = False
    files: StoredFiles | None = None


def read_step(index: int, raw: object, catalog: Catalog, problems: Problems) -> Draft:
    """Read one step. Everything wrong with it is noted; the draft is complete enough to go on looking."""
    draft = Draft(index, f"steps[{index}]")
    if not isinstance(raw, Mapping):
        problems.add(Code.INVALID_INPUT, draft.path, "A step must be an object.", "Write id, tool and inputs.")
        draft.targets_failed = True
        return draft
    values, unknown = under_our_names(raw, vocabulary.STEP_NAMES, vocabulary.STEP_FIELDS)
    fields = Fields(values, draft.path, problems)
    if unknown:
        draft.not_checked += told_about_unknown(fields, raw, unknown)
    draft.id = _id(fields)
    draft.tool = find_tool(values.get("tool"), draft.path, catalog, problems)
    draft.inputs = read_inputs(fields, raw)
    take_step_fields(draft.inputs, draft.tool, values)
    draft.description = fields.text("description", LONGEST_DESCRIPTION)
    draft.depends_on = _depends_on(fields)
    draft.execution_order = fields.number("execution_order", -1e9, 1e9)
    draft.target_refs = _target_refs(fields)
    draft.connection_type = _connection_type(fields)
    # Those in the inputs and the rollback are looked for with their tools.
    said = values | {name: raw[name] for name in unknown}
    look_for_secrets(said, f"{draft.path}.", problems, apart_from=("inputs", "tool", "rollback"))
    if draft.tool is not None:
        draft.inputs = check_inputs(draft.tool, draft.inputs, f"{draft.path}.inputs", draft.secret_refs, problems)
        draft.action_class = draft.tool.action_class_for(draft.inputs)
    draft.behaviour = read_behaviour(fields)
    draft.said_rollback = values.get("rollback")
    draft.estimated_duration = _estimate(fields, draft)
    draft.not_checked += _prose(fields)
    return draft


def as_id(value: object) -> str | None:
    """A step id as text: numbers are taken as text; None for what cannot be an id."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def find_tool(name: object, path: str, catalog: Catalog, problems: Problems) -> Tool | None:
    """The tool that a step or rollback names, or None with the problem noted."""
    if not isinstance(name, str) or not name.strip():
        problems.add(
            Code.UNKNOWN_TOOL, f"{path}.tool", "No tool is named.", "Name a tool of the catalog, for example command."
        )
        return None
    tool = catalog.get(name.strip())
    if tool is not None:
        return tool
    by_fold = {vocabulary.folded(known): known for known in catalog.names()}
    near = [by_fold[one] for one in problems.near(vocabulary.folded(name.strip()), by_fold)]
    problems.add(
        Code.UNKNOWN_TOOL,
        f"{path}.tool",
        f"There is no tool {shown(name)!r}.",
        f"{did_you_mean(near)}Name a tool of the catalog, or add a file for it there.",
    )
    return None


def _id(fields: Fields) -> str:
    value = fields.values.get("id")
    if value is None or value == "":
        return ""
    found = as_id(value)
    if found is None:
        fields.wrong("id", "A step id must be text or a number.", "Write a short word.")
        return ""
    if len(found) > LONGEST_ID or any(sign in '{}"' or not sign.isprintable() for sign in found):
        fields.wrong(
            "id",
            f"A step id has at most {LONGEST_ID} characters, and neither braces, double quotes nor control characters.",
            "Write a short word.",
        )
    return found[:LONGEST_ID]


def read_inputs(fields: Fields, raw: Mapping[str, object]) -> dict[str, Any]:
    names = [name for name in vocabulary.STEP_FIELDS["inputs"] if vocabulary.is_given(raw.get(name))]
    if len(names) > 1 and any(raw[name] != raw[names[0]] for name in names):
        fields.wrong("inputs", f"{' and '.join(names)} are both given and differ.", "Keep one of them.")
    value = fields.values.get("inputs")
    if value is None or value == "" or value == []:
        return {}
    if not isinstance(value, Mapping):
        fields.wrong("inputs", "inputs must be an object.", "Write names with values.")
        return {}
    return {name: item for name, item in value.items() if item is not None}


def _depends_on(fields: Fields) -> list[str]:
    value = fields.values.get("depends_on")
    if not vocabulary.is_given(value):
        return []
    wanted: list[str] = []
    for position, item in enumerate(value if isinstance(value, list) else [value]):
        if not vocabulary.is_given(item):
            continue
        found = as_id(item)
        if found is None:
            fields.wrong(f"depends_on[{position}]", "A dependency must be a step id.", "Write the id of a step.")
        else:
            wanted.append(found)
    return wanted


def _target_refs(fields: Fields) -> list[tuple[str, object]]:
    """(path, reference) of every target the step names, in all the ways there are to name one."""
    refs: list[tuple[str, object]] = []
    for name in ("targets", "target_hosts"):
        value = fields.values.get(name)
        if isinstance(value, str) and name == "target_hosts" and "{{" not in value:
            value = [part.strip() for part in value.split(",")]
        if isinstance(value, list):
            refs += [(f"{fields.at(name)}[{at}]", item) for at, item in enumerate(value) if vocabulary.is_given(item)]
        elif vocabulary.is_given(value):
            refs.append((fields.at(name), value))
    for name in ("target_asset_id", "target_hostname"):
        if fields.given(name):
            refs.append((fields.at(name), fields.values[name]))
    return refs


def _connection_type(fields: Fields) -> str | None:
    word = fields.text("connection_type", 40).lower()
    if not word:
        return None
    if word in vocabulary.CONNECTIONS or word in connections():
        return vocabulary.CONNECTIONS.get(word, word)
    fields.wrong(
        "connection_type",
        f"There is no connection {shown(word)!r}.",
        f"Write {', '.join(sorted({*vocabulary.CONNECTIONS.values(), *connections()}))}, or leave it out: the asset"
        " knows how it is reached.",
    )
    return None


def look_for_secrets(
    values: Mapping[str, object], path: str, problems: Problems, *, apart_from: tuple[str, ...]
) -> None:
    """Refuse secrets in clear, also where nobody reads: a request that holds one was seen by too many already."""
    for name, value in values.items():
        if name in apart_from or not vocabulary.is_given(value):
            continue
        for where, what in secrets_in(value, name):
            problems.add(Code.PLAINTEXT_SECRET, f"{path}{shown(name)}{where}", f"It holds {what} in clear.", HOW_TO_FIX)


def _estimate(fields: Fields, draft: Draft) -> float | None:
    """The step's own estimate in seconds; None for prose and nonsense, which is only a wrong guess anyway."""
    value = fields.values.get("estimated_duration")
    if not vocabulary.is_given(value):
        return None
    number = as_number(value)
    if number is None or not 0 <= number <= LONGEST_ESTIMATE:
        draft.not_checked.append("The estimated duration is not a number of seconds; the tool's own estimate counts.")
        return None
    return number


def _prose(fields: Fields) -> list[str]:
    """What the step says in words, for people to read: nobody evaluates it."""
    said: list[str] = []
    for name, called in (("preconditions", "Precondition"), ("success_criteria", "Success criterion")):
        value = fields.values.get(name)
        items = value if isinstance(value, list) else [value]
        said += [f"{called}: {in_words(item)}" for item in items if vocabulary.is_given(item)]
    handling = fields.values.get("failure_handling")
    if isinstance(handling, str) and vocabulary.folded(handling.strip()) not in (
        "abort",
        "stop",
        "continue",
        "rollback",
    ):
        if handling.strip():
            said.append(f"Failure handling, taken as {read_behaviour_word(fields)}: {shown(handling, 500)}")
    elif vocabulary.is_given(handling) and not isinstance(handling, str):
        said.append(f"Failure handling, taken as {read_behaviour_word(fields)}: {in_words(handling)}")
    if vocabulary.boolean_of(fields.values.get("use_asset_credentials")) is False:
        said.append("use_asset_credentials is false, but a machine is always reached with its own credential.")
    return said


def read_behaviour_word(fields: Fields) -> str:
    """The on_failure that counts for the step, for the sentence about its prose."""
    own = fields.values.get("on_failure")
    prose = fields.values.get("failure_handling")
    return own if isinstance(own, str) and own else vocabulary.on_failure_of(prose if isinstance(prose, str) else "")


def in_words(value: object, longest: int = 500) -> str:
    """Prose as text; an object as JSON."""
    return shown(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), longest)
