"""What a worker says to a Windows machine: one constant command line, and everything else over standard input.

WinRM hands a command line to cmd.exe (from Windows Server 2012 R2 on whatever WINRS_SKIP_CMD_SHELL says), whose rules
no quoting satisfies in every case, and which every user of the machine can read. So it holds nothing of the invocation:
the agent, the script or program, its arguments, environment and input are lines of base64 on standard input.
"""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from executions.connectors.base import Invocation

# Only signs that cmd.exe leaves alone between double quotes. -EncodedCommand would do without them, but makes Windows
# PowerShell write its errors as XML, whatever -OutputFormat says.
COMMAND_LINE = (
    "powershell.exe -NoLogo -NoProfile -NonInteractive -ExecutionPolicy Bypass -Command "
    '"$l=@($input);& ([ScriptBlock]::Create([Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($l[0])))) $l"'
)

LONGEST_COMMAND_LINE = 32_766  # characters that CreateProcess takes
_CHUNK = 48_000  # bytes of input in a line; a multiple of three, so that the base64 of a line has no padding within


def lines_of(invocation: Invocation, *, mark: str, fence: int) -> bytes:
    """Return all that the agent is told, the agent itself first. ASCII, so that no code page matters.

    The last line repeats the mark: what breaks off before it, the agent does not carry out.
    """
    return b"".join(line.encode("ascii") + b"\n" for line in _lines(invocation, mark, fence))


def arguments_of(invocation: Invocation) -> str:
    """Return the arguments as one command line for CreateProcess, which programs take apart by CommandLineToArgvW."""
    return subprocess.list2cmdline(invocation.argv[1:])


def _lines(invocation: Invocation, mark: str, fence: int) -> Iterator[str]:
    yield _base64(_agent())
    yield _line("mark", mark)
    if invocation.script is not None:
        yield _line("kind", "script" if invocation.script.inputs is None else "tool")
        yield _line("script", invocation.script.text)
        for name, value in (invocation.script.inputs or {}).items():
            yield _line("input", name, value)
    else:
        yield _line("kind", "program")
        yield _line("file", invocation.argv[0])
        yield _line("arguments", arguments_of(invocation))
    yield _line("directory", invocation.working_directory or "")
    for name, value in invocation.environment.items():
        yield _line("environment", name, value)
    yield _line("environment", "OPSCONDUCTOR_FENCE", str(fence))
    content = invocation.stdin or b""
    for at in range(0, len(content), _CHUNK):
        yield f"content {base64.b64encode(content[at : at + _CHUNK]).decode()}"
    yield _line("end", mark)


def _line(word: str, *values: str) -> str:
    return " ".join((word, *(_base64(value) for value in values)))


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@cache
def _agent() -> str:
    return (Path(__file__).parent / "agent.ps1").read_text(encoding="ascii")
