"""What is sent to the other machine: one constant command line, and on its standard input everything else.

The login shell, whichever it is, sees the constant alone; so does whoever looks at the processes there. The small
reader in it waits for a line that begins with `opsconductor-begin` and a number, takes exactly so many bytes and lets
`sh` carry them out. All that comes from a plan is quoted for `sh` in there, and is never anything but data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from executions.connectors.base import ErrorCode, Invocation, Outcome

# No single quote, backslash, line end or exclamation mark: sh, bash, fish and csh all take it for the same.
_READER = (
    "read -r u x 2>/dev/null </proc/uptime || u=$(date +%s);"
    ' echo "opsconductor-hello 1 $u";'
    ' while read -r w n; do [ "$w" = opsconductor-begin ] &&'
    ' s=$(dd bs=1 count="$n" 2>/dev/null) && eval "$s"; done'
)
EXEC_LINE = f"exec /bin/sh -c '{_READER}'"
HELLO = b"opsconductor-hello 1 "
PASSWORD_PROMPT = b"opsconductor-password:"
_SUDO_LINE = "exec sudo -H -S -p {prompt} -k -u {user} -- /bin/sh -c '{reader}'"

BLOCK_BYTES = 16384  # as in guard.sh
BLOCKS_AHEAD = 3  # more would not fit into a pipe, and the guard would wait in it

_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}\$?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def exec_line(run_as: str) -> str:
    """The command line for the login shell. `run_as` was checked by `problem_of`."""
    if not run_as:
        return EXEC_LINE
    return _SUDO_LINE.format(prompt=PASSWORD_PROMPT.decode(), user=run_as, reader=_READER)


def problem_of(invocation: Invocation) -> Outcome | None:
    """What cannot be sent, whatever the machine."""
    sentence = None
    names = invocation.environment.keys()
    if not invocation.argv or not invocation.argv[0]:
        sentence = "There is no command to run."
    elif any("\0" in word for word in invocation.argv):
        sentence = "The command holds a NUL byte, which no program can be given."
    elif any("\0" in value for value in invocation.environment.values()):
        sentence = "The environment holds a NUL byte, which no program can be given."
    elif odd := next((name for name in names if not _VARIABLE.fullmatch(name)), None):
        sentence = f"The environment holds the name {odd!r}; over SSH names are letters, digits and underscores."
    elif invocation.run_as and not _USER.fullmatch(invocation.run_as):
        sentence = f"run_as is {invocation.run_as!r}, which is no user name."
    if sentence is not None:
        return Outcome(None, ErrorCode.INVALID_INVOCATION, sentence)
    directory = invocation.working_directory
    if directory is not None and (not directory.startswith("/") or "\0" in directory):
        return Outcome(None, ErrorCode.WORKING_DIRECTORY, f"The working directory {directory!r} is not absolute.")
    return None


@dataclass(frozen=True, slots=True)
class Right:
    """Until when the worker may act, as the other machine can tell.

    clock      the reading of its own clock, in hundredths of a second, at which the right is over
    remaining  hundredths of a second for which it can last at most, should that clock be set
    """

    clock: int
    remaining: int


@dataclass(frozen=True, slots=True)
class Script:
    """One run. `nonce` begins the guard's own lines; the command never learns it. `marker` is in its environment."""

    nonce: str = field(repr=False)
    marker: str
    fence: int

    def of(self, invocation: Invocation, right: Right | None) -> bytes:
        variables = {**invocation.environment, "OPSCONDUCTOR_FENCE": str(self.fence), "OPSCONDUCTOR_RUN": self.marker}
        settings = {
            "N": self.nonce,
            "R": self.marker,
            "D": invocation.working_directory or "",
            "B": str(len(invocation.stdin or b"")),
            "U": str(right.clock) if right else "",
            "S": str(right.remaining) if right else "",
        }
        return framed(
            assignments(settings)
            + "bring_environment() {\n"
            + "".join(f"export {name}={quoted(value)} || return\n" for name, value in variables.items())
            + "}\n"
            + f"set -- {' '.join(map(quoted, invocation.argv))}\n"
            + _program("guard.sh")
        )

    def of_look(self) -> bytes:
        return framed(assignments({"N": self.nonce, "R": self.marker}) + _program("look.sh"))


def quoted(word: str) -> str:
    """As one word for sh, whatever is in it."""
    return "'" + word.replace("'", "'\\''") + "'"


def assignments(values: Mapping[str, str]) -> str:
    return "".join(f"{name}={quoted(value)}\n" for name, value in values.items())


def framed(script: str) -> bytes:
    data = script.encode("utf-8", "surrogateescape")
    return b"opsconductor-begin %d\n" % len(data) + data


@cache
def _program(name: str) -> str:
    """A program of this folder, without its comments: it goes over the line each time."""
    lines = Path(__file__).with_name(name).read_text(encoding="ascii").splitlines()
    return "\n".join(line for line in map(str.strip, lines) if line and not line.startswith("#")) + "\n"
