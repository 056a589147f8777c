"""What the automation service is asked for: one command line for one machine. What it could get wrong is refused."""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass, field
from typing import Any

from executions.connectors.base import Credential, ErrorCode, Invocation, Script, Target
from executions.tools.windows import as_expression

DEFAULT_SECONDS = 300  # what the service takes when it is told nothing
# There is no field for a port: the service goes to the usual one, which with another port is another machine's.
USUAL_PORTS = {"ssh": (None, 22), "powershell": (None, 5985, 5986)}
_PLAIN = re.compile(r"[A-Za-z0-9_./:\\=@%+-]+")


class NotOrdered(Exception):
    """It cannot be asked for, so nothing was sent. The text is a sentence for the operator."""

    def __init__(self, code: ErrorCode, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True, slots=True)
class Order:
    """The body of the request, with every secret that the step may use in it: in no repr."""

    body: dict[str, Any] = field(repr=False)
    seconds: float


def order_of(invocation: Invocation, target: Target, fence: int) -> Order:
    """Return what to ask for. Raises NotOrdered."""
    _check(invocation, target)
    seconds = invocation.timeout_seconds or DEFAULT_SECONDS
    body: dict[str, Any] = {
        "command": _command(invocation, target),
        "connection_type": target.connection,
        "timeout": math.ceil(seconds),
        "environment_vars": {**invocation.environment, "OPSCONDUCTOR_FENCE": str(fence)},
    }
    if invocation.working_directory:
        body["working_directory"] = invocation.working_directory
    if target.connection != "local":
        body["target_host"] = target.address
        if (credentials := _credentials(target)) is not None:
            body["credentials"] = credentials
    return Order(body, seconds)


def nothing_on(target: Target, seconds: float) -> Invocation:
    """Return what does nothing there, to be ended by the service a little before `seconds` are over."""
    limit = max(1.0, math.floor(seconds) - 1.0)
    if target.connection == "powershell":
        return Invocation(script=Script("exit 0"), timeout_seconds=limit)
    return Invocation(argv=("true",), timeout_seconds=limit)


def _check(invocation: Invocation, target: Target) -> None:
    if invocation.stdin or invocation.upload is not None:
        raise NotOrdered(
            ErrorCode.NOT_SUPPORTED,
            "The automation service passes no standard input on, so no file and no input can be given to a command"
            " there: on its command line it could be read by everybody. Unset AUTOMATION_SERVICE_URL for such steps.",
        )
    if invocation.run_as:
        raise NotOrdered(
            ErrorCode.NOT_SUPPORTED,
            "The automation service knows no other user than the one who signs in: leave run_as out.",
        )
    if target.port not in USUAL_PORTS.get(target.connection, (target.port,)):
        raise NotOrdered(
            ErrorCode.NOT_SUPPORTED,
            f"{target.name} is reached at port {target.port}, and the automation service can be told no port: at the"
            " usual one there may be another machine.",
        )
    texts = [*invocation.argv, *invocation.environment, *invocation.environment.values()]
    if any("\0" in text for text in texts):
        raise NotOrdered(ErrorCode.INVALID_INVOCATION, "The command holds a NUL byte, which no program can be given.")


def _command(invocation: Invocation, target: Target) -> str:
    if target.connection == "powershell":
        command = _for_powershell(invocation)
    elif invocation.argv and invocation.argv[0]:
        command = shlex.join(invocation.argv)
    else:
        raise NotOrdered(ErrorCode.INVALID_INVOCATION, "There is no command to run.")
    return command


def _for_powershell(invocation: Invocation) -> str:
    script = invocation.script
    if script is not None and script.inputs is None:
        return script.text
    if script is not None:
        inputs = script.inputs or {}
        if any(secret and secret in value for secret in invocation.secret_values for value in inputs.values()):
            raise NotOrdered(
                ErrorCode.NOT_SUPPORTED,
                "An input of this tool holds a secret, and the automation service takes inputs on a command line alone,"
                " where everybody could read it.",
            )
        table = ";".join(f"{as_expression(name)}={as_expression(value)}" for name, value in inputs.items())
        return f"& ([ScriptBlock]::Create({as_expression(script.text)})) @{{{table}}} ([byte[]]@())"
    if not invocation.argv or not invocation.argv[0]:
        raise NotOrdered(ErrorCode.INVALID_INVOCATION, "There is no command to run.")
    if any(not word or '"' in word or word.endswith("\\") for word in invocation.argv):
        # Windows PowerShell hands these on as other arguments than they are, whatever they are quoted with.
        raise NotOrdered(
            ErrorCode.NOT_SUPPORTED,
            "An argument is empty, ends in a backslash or holds a double quote: Windows PowerShell would not hand it on"
            " as it is. Use a script of the tool powershell instead.",
        )
    words = [f"'{word}'" if _PLAIN.fullmatch(word) else as_expression(word) for word in invocation.argv]
    return f"& {' '.join(words)}; exit $LASTEXITCODE"


def _credentials(target: Target) -> dict[str, str] | None:
    credential = target.credential or Credential()
    if credential.passphrase or credential.jump_hosts or credential.agent or credential.certificate:
        raise NotOrdered(
            ErrorCode.CREDENTIAL_UNUSABLE,
            f"The credential of {target.name} has a passphrase, an agent, a certificate or jump hosts, which the"
            " automation service cannot use.",
        )
    given = {
        "username": credential.username or target.username,
        "password": credential.password,
        "private_key": credential.private_key,
        "api_key": credential.api_key,
        "bearer_token": credential.bearer_token,
        "domain": credential.domain or target.domain,
    }
    return {name: value for name, value in given.items() if value} or None
