"""Runs programs and PowerShell scripts on Windows machines, by WinRM over HTTPS."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from executions.connectors.registry import Surroundings
    from executions.connectors.winrm.connector import WinRMConnector


def make(surroundings: Surroundings) -> WinRMConnector:
    """Raises NoConnector when what it needs is not installed."""
    from executions.connectors.registry import NoConnector

    if importlib.util.find_spec("pypsrp") is None:
        raise NoConnector(
            "This worker cannot reach machines with connection powershell: install requirements-windows.txt and start"
            " it again, or let workers that have it take the plan (labels.pool)."
        )
    from executions.connectors.winrm.connector import WinRMConnector

    return WinRMConnector(surroundings)
