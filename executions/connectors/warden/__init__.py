"""Commands never outlive the worker's right to run them. See docs/decisions/0003-the-warden.md."""

from executions.connectors.warden.client import Aftermath, Run, StartFailed, Warden, WardenLost

__all__ = ["Aftermath", "Run", "StartFailed", "Warden", "WardenLost"]
