"""What is said of a command: from what its guard said, and from what was missing."""

from __future__ import annotations

import asyncssh

from executions.connectors.base import ErrorCode, Invocation, Outcome, Stop
from executions.connectors.ssh.session import FarCommand
from executions.connectors.ssh.way import NoWay, Way, no_way

NO_RIGHT = "Not started: the worker's right to run commands had ended before. Another worker may take it."
OUTLASTED = "Should it have gone on, its guard there was to end it by now."

_FAILED = {
    "late": (ErrorCode.NOT_STARTED, NO_RIGHT),
    "not_found": (ErrorCode.COMMAND_NOT_FOUND, "There is no command {command!r} there."),
    "not_executable": (ErrorCode.PERMISSION_DENIED, "{command!r} may not be executed there."),
    "directory": (ErrorCode.WORKING_DIRECTORY, "The working directory {directory!r} cannot be entered there."),
    "environment": (ErrorCode.INVALID_INVOCATION, "A variable of the environment cannot be set there."),
    "input": (
        ErrorCode.START_FAILED,
        "There is no place there for the command's input: not one of /dev/shm, /tmp, /var/tmp and the home directory"
        " can be written. Make room in one of them.",
    ),
}


def because(stop: Stop) -> str:
    return {
        "user": "it was cancelled",
        "timeout": "its time was up",
        "lease_lost": "the worker lost its lease",
        "shutdown": "the worker is stopping",
        "approval_withdrawn": "its approval was withdrawn",
    }.get(stop.reason or "", f"asked to stop ({stop.reason})")


def not_begun(stop: Stop) -> Outcome:
    return Outcome(None, ErrorCode.NOT_STARTED, f"Not started: {because(stop)}.", stop_confirmed=True)


def of_a_refused_channel(way: Way, error: Exception, *, is_dead: bool) -> NoWay:
    if isinstance(error, asyncssh.ChannelOpenError) and not is_dead:
        return no_way(
            ErrorCode.NOT_SUPPORTED,
            f"{way.name} lets {way.username} sign in but opens no session: {error.reason}. See MaxSessions, and whether"
            " the account may run commands.",
        )
    return no_way(ErrorCode.UNREACHABLE, f"The connection to {way.name} broke before anything was sent: {error}.")


def of_no_hello(command: FarCommand, run_as: str, name: str) -> Outcome:
    """The channel was opened, but what was to read the command did not answer."""
    said = f': "{command.early_text}"' if command.early_text else ""
    if command.was_lost:
        return Outcome(None, ErrorCode.UNREACHABLE, f"The connection to {name} broke before anything was sent.")
    if run_as:
        sentence = f"sudo on {name} did not let it run as {run_as}{said}. Allow it in sudoers, or name another user."
        return Outcome(None, ErrorCode.RUN_AS_REFUSED, sentence)
    if command.is_closed:
        sentence = f"The account on {name} does not run commands{said}. It needs a login shell and /bin/sh."
        return Outcome(None, ErrorCode.NOT_SUPPORTED, sentence)
    sentence = f"{name} let the user sign in, but its login shell did not begin in time{said}."
    return Outcome(None, ErrorCode.UNREACHABLE, sentence)


def run_as_refused(run_as: str, name: str, *, has_password: bool) -> Outcome:
    if has_password:
        sentence = (
            f"sudo on {name} refused the password for running as {run_as}. Correct sudo_password in the credential."
        )
    else:
        sentence = (
            f"sudo on {name} wants a password for running as {run_as}, and the credential has none. Store one as"
            " sudo_password, or allow it without one in sudoers."
        )
    return Outcome(None, ErrorCode.RUN_AS_REFUSED, sentence)


def of_the_end(command: FarCommand, stop: Stop, invocation: Invocation) -> Outcome | None:
    """None when nobody said how it ended: the connection was lost."""
    if command.failed:
        code, sentence = _FAILED.get(command.failed, (ErrorCode.START_FAILED, "It could not be started there."))
        return Outcome(
            None,
            code,
            sentence.format(command=invocation.argv[0], directory=invocation.working_directory),
            stop_confirmed=True if stop.requested else None,
        )
    if "stopped" in command.endings or "expired" in command.endings:
        return _of_a_stop(command, stop)
    if command.exit_code is not None:
        # The exit code comes behind all of stdout and decides; that something is missing on stderr is only to be known.
        data = {"stderr_may_be_cut": True} if command.stderr_may_be_cut else {}
        return Outcome(command.exit_code, stop_confirmed=True if stop.requested else None, data=data)
    if stop.requested and not command.is_closed:
        return Outcome(
            None,
            ErrorCode.STOPPED,
            f"It was asked to stop ({because(stop)}), and the other machine did not say that it did.",
            stop_confirmed=False,
        )
    return None


def _of_a_stop(command: FarCommand, stop: Stop) -> Outcome:
    left = command.endings.get("stopped") or command.endings.get("expired") or ""
    why = because(stop) if stop.requested else "the worker could not keep its right to run it"
    sentence, data = f"Stopped: {why}.", {}
    if left != "gone":
        data = {"left_running": [int(pid) for pid in left.split() if pid.isdigit()]}
        sentence += f" These processes could not be ended and may still run: {left}."
    return Outcome(command.exit_code, ErrorCode.STOPPED, sentence, left == "gone", data)
