"""Runs playbooks of a test's own on targets of its own, and keeps what became of each."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from executions.connectors import Invocation, Outcome, Stop, Target
from executions.connectors.ansible import folder
from executions.connectors.ansible.connector import AnsibleConnector
from executions.connectors.ansible.contents import StoredFiles
from tests.executions.connectors.recording import RecordingSink

# A play on every host, without gathering facts, and with a Python that is certainly there.
PLAY = f"- hosts: all\n  gather_facts: false\n  vars: {{ansible_python_interpreter: {sys.executable}}}\n"


class Stage:
    """A folder of playbooks, and a connector for them."""

    def __init__(self, connector: AnsibleConnector, playbooks: Path) -> None:
        self.connector = connector
        self.folder = playbooks
        self.outcomes: dict[str, Outcome] = {}
        self.sinks: dict[str, RecordingSink] = {}

    def write(self, tasks: str, *, name: str = "site.yml", play: str = PLAY) -> None:
        """A playbook of one play; `tasks` are indented as they stand at the start of a line."""
        lines = "".join(f"    {line}\n" for line in tasks.strip("\n").splitlines())
        (self.folder / name).write_text(f"{play}  tasks:\n{lines}")

    async def play(
        self,
        targets: Sequence[Target],
        *,
        stop: Stop | None = None,
        playbook: str = "site.yml",
        at_once: int | None = None,
        files: StoredFiles | None = None,
        **inputs: Any,
    ) -> dict[str, Outcome]:
        """Run a playbook on targets; return their outcomes by name. Each has one, and no second."""

        def note(place: int, outcome: Outcome) -> None:
            assert targets[place].name not in self.outcomes
            self.outcomes[targets[place].name] = outcome

        self.outcomes = {}
        self.sinks = {target.name: RecordingSink() for target in targets}
        await self.connector.run_group(
            Invocation(
                stdin=json.dumps({"playbook": playbook, **inputs}).encode(),
                at_once=at_once,
                files=dict(files) if files else None,
            ),
            targets,
            sinks=list(self.sinks.values()),
            stop=stop or Stop(),
            fence=7,
            on_outcome=note,
        )
        assert self.outcomes.keys() == self.sinks.keys()
        return self.outcomes

    def stdout(self, name: str) -> str:
        return self.sinks[name].stdout

    def stderr(self, name: str) -> str:
        return self.sinks[name].stderr


def local(name: str) -> Target:
    return Target(name=name, connection="local")


def what_is_left() -> list[str]:
    """Folders and shared memory of this test's runs, and processes that were told of such a folder."""
    left = [path.name for path in folder.IN_MEMORY.glob(f"{folder.PREFIX}*")]
    told = f"ANSIBLE_CONFIG={folder.IN_MEMORY / folder.PREFIX}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
            command = (process / "cmdline").read_bytes()
            name = (process / "comm").read_text().strip()
        except OSError:
            continue
        # ssh's holders of connections write a title over their environment
        if told in environment or f"ssh: {folder.IN_MEMORY / folder.PREFIX}".encode() in command:
            left.append(f"{process.name} {name}")
    return left
