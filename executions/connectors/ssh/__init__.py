"""Commands and files on machines over SSH. See docs/decisions/0019-ssh.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executions.connectors.ssh.connector import SshConnector

if TYPE_CHECKING:
    from executions.connectors.registry import Surroundings

__all__ = ["SshConnector", "make"]


def make(surroundings: Surroundings) -> SshConnector:
    return SshConnector(surroundings)
