"""ansible-playbook, started by program.py, with two things otherwise. It runs apart from the worker.

- There is no implicit localhost: `hosts: localhost` and `delegate_to: localhost` would run on the worker's own machine,
  which is no target unless an asset says so. Where one does, it is in the inventory and found there.
- The shared memory in which a password waits for ssh is named after the run, so that what a killed run left is found.
"""

from __future__ import annotations

import os
import secrets
import sys
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any


class NamedSharedMemory(shared_memory.SharedMemory):
    def __init__(self, name: str | None = None, create: bool = False, size: int = 0, **more: Any) -> None:
        if create and name is None:
            name = f"{os.environ['OPSCONDUCTOR_SHARED_MEMORY']}{secrets.token_hex(6)}"
        super().__init__(name=name, create=create, size=size, **more)


def main() -> None:
    setattr(shared_memory, "SharedMemory", NamedSharedMemory)  # noqa: B010  (before ansible imports it)
    from ansible import constants
    from ansible.cli.playbook import main as ansible_playbook

    setattr(constants, "LOCALHOST", ())  # noqa: B010  (the names that ansible would make such a host for)
    # ansible looks beside its own program for the one that answers ssh's question for a password.
    sys.argv[0] = str(Path(sys.executable).with_name("ansible-playbook"))
    ansible_playbook(sys.argv)


if __name__ == "__main__":
    main()
