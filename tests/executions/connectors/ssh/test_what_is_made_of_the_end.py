"""What is said of a command whose connection goes away around its end: no test meets that moment over a wire."""

from __future__ import annotations

import asyncssh
import pytest

from executions.connectors import Invocation, Stop
from executions.connectors.ssh.outcomes import of_the_end
from executions.connectors.ssh.session import FarCommand
from tests.executions.connectors.recording import RecordingSink

NONCE = b"0123456789abcdef"
STDERR = asyncssh.EXTENDED_DATA_STDERR


@pytest.mark.parametrize("said", [b"", b"half a wo", NONCE, NONCE + b"\n"])
async def test_a_connection_lost_between_both_ends_is_said_to_have_cut_stderr(said: bytes) -> None:
    command, sink = FarCommand(NONCE.decode()), RecordingSink()
    command.begin(b"the script")
    command.data_received(b"all of it\n" + NONCE + b" exit 0\n", None)
    command.data_received(said, STDERR)
    command.connection_lost(asyncssh.ConnectionLost("gone"))
    await command.deliver(sink)
    outcome = of_the_end(command, Stop(), Invocation(argv=("true",)))

    assert outcome is not None
    assert (outcome.exit_code, outcome.error_code, sink.stdout) == (0, None, "all of it\n")
    assert outcome.data == ({} if said.endswith(b"\n") else {"stderr_may_be_cut": True})


async def test_without_an_exit_code_nobody_knows_whatever_came_on_stderr() -> None:
    command = FarCommand(NONCE.decode())
    command.begin(b"the script")
    command.data_received(NONCE + b"\n", STDERR)
    command.connection_lost(asyncssh.ConnectionLost("gone"))
    assert of_the_end(command, Stop(), Invocation(argv=("true",))) is None
