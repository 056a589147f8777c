"""What the files of the installation were, that steps take in, when a plan was accepted: part of what the plan does.

A playbook is named in a plan and stands in a folder. An approval is for what stood there: the folder's digest is kept
with the step, is part of the plan's hash, and is compared by the worker before anything runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.conf import settings

from executions.connectors.ansible.contents import Contents, Reader, StoredFiles, changes
from executions.connectors.ansible.playbooks import NoPlaybook
from executions.plans.problems import Code, Problems

if TYPE_CHECKING:
    from executions.plans.steps import Draft
    from executions.tools import Tool

_reader = Reader()  # of this process: it knows the digests of files that have not changed since


def bind_files(drafts: Sequence[Draft], problems: Problems) -> None:
    """Note for each step, and each rollback, that names a playbook what stands in its folder."""
    contents: Contents | None = None
    for draft in drafts:
        for one in (draft, draft.rollback):
            playbook = playbook_of(one.tool, one.inputs) if one is not None else None
            if one is None or playbook is None:
                continue
            try:
                contents = contents or read_folder()
                one.files = contents.of(playbook)
            except NoPlaybook as problem:
                path = f"{one.path}.inputs.playbook"
                if not problems.has_at(path):
                    problems.add(Code.INVALID_INPUT, path, f"playbook {problem.message}.", problem.how_to_fix)


def playbook_of(tool: Tool | None, inputs: Mapping[str, Any]) -> str | None:
    """Return the playbook that a step names; None when its tool takes none."""
    if tool is None:
        return None
    named = (inputs.get(name) for name, parameter in tool.parameters.items() if parameter.type == "playbook")
    return next((name for name in named if isinstance(name, str)), None)


def read_folder() -> Contents:
    """What stands in the folder of playbooks of this host now. Raises NoPlaybook."""
    return _reader.read(settings.ANSIBLE_PLAYBOOKS)


def changed_files(steps: Sequence[Mapping[str, Any]], look: Callable[[], Contents] = read_folder) -> list[str]:
    """Return in sentences what of the files that stored steps are bound to is other than it was, each once.

    look: `read_folder`, or what remembers for a while what that gave.
    """
    bound = {
        (one["inputs"]["playbook"], one["files"]["digest"]): one["files"]
        for step in steps
        for one in (step, step.get("rollback") or {})
        if "files" in one
    }
    if not bound:
        return []
    try:
        now = look()
    except NoPlaybook as problem:
        return [f"What a playbook may take in cannot be told here: it {problem.message}."]
    said = [changes(files, now, name) for (name, _), files in sorted(bound.items(), key=lambda one: one[0])]
    return [sentence for sentence in said if sentence]


def digests_of(step: Mapping[str, Any]) -> dict[str, str]:
    """Return what of the files is part of the plan's hash; nothing for a step that takes in none."""
    files: StoredFiles | None = step.get("files")
    return {"files": files["digest"]} if files else {}
