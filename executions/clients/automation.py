"""The client of the automation service, which runs one command on one machine and answers when it has ended.

There is no cancel over there, no key against doing it twice, and nothing to ask about afterwards. So a command is sent
once; and what became of one whose answer was lost, nobody knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from executions.clients.client import IN_A_WORKER, Patience, ServiceClient
from executions.clients.transport import Call
from executions.clients.troubles import BadAnswer
from opsconductor.service_settings import ServiceSettings


def _text(value: object) -> object:
    return "" if value is None else value


def _exit_code(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("an exit code is a number")
    return value


Text = Annotated[str, BeforeValidator(_text)]


class ExecuteAnswer(BaseModel):
    """What `/execute` answers, also when the command failed. The command, which it repeats, is dropped here."""

    model_config = ConfigDict(extra="ignore", frozen=True, coerce_numbers_to_str=True)

    execution_id: Text = ""
    status: Text = ""
    exit_code: Annotated[int | None, BeforeValidator(_exit_code)] = None
    stdout: Text = ""
    stderr: Text = ""
    duration_seconds: float | None = None
    error_message: Text = ""


class AutomationService:
    """Asks the automation service. Every call raises ServiceTrouble when it cannot be answered."""

    def __init__(self, service: ServiceSettings) -> None:
        # A service that has been in trouble is asked for its status first: a command is never the probe.
        self.client = ServiceClient(service, probe_path="/status")

    def execute(self, order: Mapping[str, Any], *, patience: Patience, call: Call, largest: int) -> ExecuteAnswer:
        """Have a command run, and wait for its end. `call` gives that up, here alone.

        largest: bytes of an answer; one that is larger is no answer.
        """
        reply = self.client.post("/execute", order, patience=patience, call=call, largest=largest)
        try:
            return ExecuteAnswer.model_validate(reply.object())
        except ValidationError:
            # Without the fault's own text: it repeats what the command printed.
            raise BadAnswer("automation", "The automation service answered with something that is no result.") from None

    def status(self, *, patience: Patience = IN_A_WORKER) -> dict[str, Any]:
        """Return what the service says of itself."""
        return self.client.get("/status", patience=patience).object()
