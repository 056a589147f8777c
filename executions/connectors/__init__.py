"""Connectors carry out invocations on targets: commands on this machine, HTTP requests."""

from executions.connectors.base import (
    Connector,
    ErrorCode,
    HttpRequest,
    Invocation,
    Outcome,
    OutputSink,
    Stop,
    StopReason,
    Stream,
)
from executions.connectors.output import OutputCollector, Transformer
from executions.connectors.registry import NoConnector, configure_connectors, connector_for, worker_warden
from executions.connectors.warden import Warden, WardenLost

__all__ = [
    "Connector",
    "ErrorCode",
    "HttpRequest",
    "Invocation",
    "NoConnector",
    "Outcome",
    "OutputCollector",
    "OutputSink",
    "Stop",
    "StopReason",
    "Stream",
    "Transformer",
    "Warden",
    "WardenLost",
    "configure_connectors",
    "connector_for",
    "worker_warden",
]
