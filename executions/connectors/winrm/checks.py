"""What a Windows machine cannot be asked, told before anything is sent; and what it could not start, afterwards."""

from __future__ import annotations

import re
from collections.abc import Iterator

from executions.connectors.base import ErrorCode, Invocation, Outcome
from executions.connectors.winrm.orders import LONGEST_COMMAND_LINE, arguments_of
from executions.connectors.winrm.reading import Refused

# A drive with a path, or a share.
_ABSOLUTE = re.compile(r"[A-Za-z]:[\\/].*|[\\/]{2}[^\\/?.][^\\/]*[\\/].+", re.DOTALL)
_VARIABLE = re.compile(r"[^=\0]+")
_NUMBERED = re.compile(r"start-(-?\d+)")

_NOT_FOUND = (2, 3, 193, 216)  # no such file or folder; not a program, or not for this kind of Windows
_DENIED = (5, 740)  # 740: wants to be elevated
_TOO_LONG = (206,)


def problem_of(invocation: Invocation) -> Outcome | None:
    """Why this cannot be asked of any Windows machine; None when it can."""
    if invocation.run_as:
        return Outcome(
            None,
            ErrorCode.NOT_SUPPORTED,
            f"On Windows nothing can be run as {invocation.run_as}: it runs as whoever signs in. Leave run_as out, or"
            " give the asset the credential of that user.",
        )
    if invocation.check and invocation.script is None:  # a script is there only if it changes nothing
        return Outcome(None, ErrorCode.NOT_SUPPORTED, "On Windows this tool cannot say what it would change.")
    sentence = _wrong_with(invocation)
    if sentence is not None:
        return Outcome(None, ErrorCode.INVALID_INVOCATION, sentence)
    if invocation.script is None and len(invocation.argv[0]) + len(arguments_of(invocation)) > LONGEST_COMMAND_LINE - 3:
        sentence = f"A command line on Windows has at most {LONGEST_COMMAND_LINE:,} characters. Give data by stdin."
        return Outcome(None, ErrorCode.ARGUMENTS_TOO_LONG, sentence)
    directory = invocation.working_directory
    if directory is not None and not _ABSOLUTE.fullmatch(directory):
        sentence = f"The working directory {directory!r} is not absolute on Windows. Write it as C:\\..."
        return Outcome(None, ErrorCode.WORKING_DIRECTORY, sentence)
    return None


def start_problem(refused: Refused, invocation: Invocation, where: str) -> Outcome:
    """What the agent's refusal means. Nothing was run."""
    told = f": {refused.text.rstrip('.')}." if refused.text else "."
    if refused.why == "directory":
        sentence = f"The working directory {invocation.working_directory} of {where} cannot be entered{told}"
        return Outcome(None, ErrorCode.WORKING_DIRECTORY, sentence)
    numbered = _NUMBERED.fullmatch(refused.why)
    number = int(numbered[1]) if numbered else 0
    command = invocation.argv[0] if invocation.argv else "The script"
    if number in _NOT_FOUND:
        sentence = f"{where} has no program {command} that it could start{told} Write its whole path."
        return Outcome(None, ErrorCode.COMMAND_NOT_FOUND, sentence)
    if number in _DENIED:
        return Outcome(None, ErrorCode.PERMISSION_DENIED, f"{where} does not let us start {command}{told}")
    if number in _TOO_LONG:
        return Outcome(None, ErrorCode.ARGUMENTS_TOO_LONG, f"The command line is too long for {where}{told}")
    return Outcome(None, ErrorCode.START_FAILED, f"{where} could not start {command}{told}")


def _wrong_with(invocation: Invocation) -> str | None:
    if invocation.script is None and (not invocation.argv or not invocation.argv[0].strip()):
        return "There is no command to run."
    if any("\0" in text for text in _texts(invocation)):
        return "It holds a NUL byte, which no program on Windows can be given."
    if any("\ud800" <= sign <= "\udfff" for text in _texts(invocation) for sign in text):
        return "It holds half a character, which cannot be written in UTF-8."
    if any(not _VARIABLE.fullmatch(name) for name in invocation.environment):
        return "The environment holds a name that no program can be given."
    if invocation.script is None and _is_batch(invocation.argv[0]):
        return (
            f"{invocation.argv[0]} is a batch file: cmd.exe would take its arguments for commands. Run it by the tool"
            " powershell, with what you want it to get written into the script."
        )
    return None


def _is_batch(program: str) -> bool:
    """Whether Windows would hand it to cmd.exe. Dots and spaces at the end, and streams, are as good as not there."""
    parts = re.split(r"[\\/:]", program)
    return any(part.rstrip(". ").lower().endswith((".bat", ".cmd")) for part in parts)


def _texts(invocation: Invocation) -> Iterator[str]:
    yield from invocation.argv
    yield invocation.working_directory or ""
    for name, value in invocation.environment.items():
        yield name
        yield value
    if invocation.script is not None:
        yield invocation.script.text
        for name, value in (invocation.script.inputs or {}).items():
            yield name
            yield value
