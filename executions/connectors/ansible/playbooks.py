"""The one folder in which an installation keeps its playbooks, and how a plan names one of them."""

from __future__ import annotations

import re
from pathlib import Path

LONGEST_NAME = 500
HOW_TO_NAME = (
    "Write the way to it below the folder of playbooks, such as web/deploy.yml: no / at its start, no .., and only "
    "letters, digits, dashes, dots and underscores."
)
# A name cannot be an option, climb, or mean something to anybody that it passes: letters, digits, and - _ . / within.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*\.(yml|yaml)", re.ASCII)


class NoPlaybook(Exception):
    """The name is none, or there is no such playbook. `how_to_fix` says what to do."""

    def __init__(self, message: str, how_to_fix: str) -> None:
        super().__init__(message)
        self.message = message
        self.how_to_fix = how_to_fix


def is_playbook_name(text: str) -> bool:
    """Whether it has the form of one; whether there is such a playbook, `find_playbook` knows."""
    return len(text) <= LONGEST_NAME and _NAME.fullmatch(text) is not None


def find_playbook(folder: Path, name: str) -> Path:
    """Return the file that `name`, relative to `folder`, stands for. Raises NoPlaybook.

    Links are followed before it is looked whether the file is in the folder: one that leads out of it is not.
    """
    if not is_playbook_name(name):
        raise NoPlaybook("is not the name of a playbook", HOW_TO_NAME)
    try:
        root = folder.resolve(strict=True)
        path = (root / name).resolve(strict=True)
    except (OSError, RuntimeError):
        raise NoPlaybook(f"{name!r} is not in the folder of playbooks", _PUT_IT_THERE) from None
    if not path.is_relative_to(root):
        raise NoPlaybook(f"{name!r} leads out of the folder of playbooks", "Put the file itself there, no link to it.")
    if not path.is_file():
        raise NoPlaybook(f"{name!r} is no file", _PUT_IT_THERE)
    return path


_PUT_IT_THERE = "Put it there (setting ANSIBLE_PLAYBOOKS, on every host with web processes or workers), or correct it."
