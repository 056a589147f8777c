"""As which user of the target a step runs, where that is not whoever its credential signs in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from executions.plans.compiled import ActionClass, gravest
from executions.plans.fields import Fields
from executions.plans.problems import Code, Problems, shown

if TYPE_CHECKING:
    from executions.plans.steps import Draft

ROOT = "root"

# What a user name may be, so that it is never taken for an option, a number or a part of a command line.
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,31}\$?")
_RUNS_COMMANDS = frozenset({"command", "ansible"})
_CANNOT = {
    "local": "commands on the worker's own machine run as the worker's user",
    "powershell": "on Windows it runs as whoever signs in",
    "api": "a request has no user of a machine",
}


def read_run_as(fields: Fields) -> str:
    """Return the user that a step names; root when it says only that it is to become another one; else nothing."""
    name = fields.text("run_as", 33)
    if fields.given("run_as") and not _USER.fullmatch(name):
        fields.wrong("run_as", "run_as must be the name of a user on the target.", "Write a name, such as postgres.")
        return ""
    becomes = fields.flag("become")
    if becomes is False and name:
        fields.wrong("become", f"become is false, and run_as names {name}.", "Leave out one of the two.")
    return name or (ROOT if becomes else "")


def graver_as(run_as: str, action_class: ActionClass) -> ActionClass:
    """What a step counts as that is done as another user: sudo's word is needed for it, so reading alone it is not.

    As root every file can be read, and the right to read a machine is not meant to hold its passwords.
    """
    return gravest([action_class, "modify"]) if run_as else action_class


def check_run_as(drafts: Sequence[Draft], problems: Problems) -> None:
    """Refuse it where nobody could carry it out: it must never be left out silently."""
    for draft in drafts:
        name = draft.behaviour.run_as
        if not name:
            continue
        if draft.tool is not None and draft.tool.connector not in _RUNS_COMMANDS:
            problems.add(
                Code.INVALID_INPUT,
                f"{draft.path}.run_as",
                f"The tool {draft.tool.name} runs nothing on a machine that could be run as {name}.",
                "Leave run_as out.",
            )
            continue
        cannot = {asset.connection: asset.name for asset, _ in draft.targets if asset.connection in _CANNOT}
        for connection, machine in sorted(cannot.items()):
            problems.add(
                Code.INVALID_INPUT,
                f"{draft.path}.run_as",
                f"Nothing can be run as {name} on {shown(machine)} (connection {connection}): {_CANNOT[connection]}.",
                "Leave run_as out, or reach the machine by ssh.",
            )
