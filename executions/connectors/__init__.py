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

__all__ = [
    "Connector",
    "ErrorCode",
    "HttpRequest",
    "Invocation",
    "Outcome",
    "OutputSink",
    "Stop",
    "StopReason",
    "Stream",
]
