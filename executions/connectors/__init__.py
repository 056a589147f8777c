"""Connectors carry out invocations on targets: commands on machines, HTTP requests."""

from executions.connectors.base import (
    NO_TARGET,
    Connector,
    Credential,
    ErrorCode,
    GroupConnector,
    HttpRequest,
    Invocation,
    Outcome,
    OutputSink,
    Script,
    Stop,
    StopReason,
    Stream,
    Target,
    Upload,
)
from executions.connectors.output import OutputCollector, Transformer
from executions.connectors.registry import (
    ConnectorConflict,
    NoConnector,
    Surroundings,
    close_connectors,
    configure_connectors,
    connector_for,
    worker_warden,
)
from executions.connectors.warden import Warden, WardenLost

__all__ = [
    "NO_TARGET",
    "Connector",
    "ConnectorConflict",
    "Credential",
    "ErrorCode",
    "GroupConnector",
    "HttpRequest",
    "Invocation",
    "NoConnector",
    "Outcome",
    "OutputCollector",
    "OutputSink",
    "Script",
    "Stop",
    "StopReason",
    "Stream",
    "Surroundings",
    "Target",
    "Transformer",
    "Upload",
    "Warden",
    "WardenLost",
    "close_connectors",
    "configure_connectors",
    "connector_for",
    "worker_warden",
]
