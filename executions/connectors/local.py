"""Runs commands on this machine: without a shell, without a terminal, and without anything of the worker's own."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import pwd
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from executions.connectors.base import ErrorCode, Invocation, Outcome, OutputSink, Stop, Target
from executions.connectors.pipes import InputPipe, OutputPipes
from executions.connectors.warden import Aftermath, Run, StartFailed, Warden

if TYPE_CHECKING:
    from executions.connectors.registry import Surroundings

DEFAULT_GRACE_SECONDS = 5.0
OUTPUT_GRACE_SECONDS = 1.0  # after the command ended, for others that still hold its output open
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(slots=True)
class _Started:
    run: Run
    output: OutputPipes
    input: InputPipe | None

    def close(self) -> None:
        self.run.abandon()
        self.output.close()
        if self.input is not None:
            self.input.close()


class LocalConnector:
    """Commands as processes of this machine, each in a session of its own, guarded by the worker's warden.

    A command gets PATH, HOME, LANG, TERM, the invocation's own variables, OPSCONDUCTOR_FENCE and OPSCONDUCTOR_RUN;
    a standard input that is empty or the given bytes; and no other open file. It ends when it ends: background
    children that stayed in its session are killed then; one that opened its own session (a service that became a
    daemon) stays, and is named in the outcome's data if it holds the output open.

    Stop is SIGTERM to all that belongs to it, in whatever session, and `grace_seconds` later SIGKILL.
    """

    def __init__(
        self, warden: Warden, *, grace_seconds: float = DEFAULT_GRACE_SECONDS, failed_leave_nothing: bool = False
    ) -> None:
        """`failed_leave_nothing`: a command that did not end with 0 takes all that it began along, daemons too."""
        self._warden = warden
        self._grace_seconds = grace_seconds
        self._failed_leave_nothing = failed_leave_nothing

    @property
    def warden(self) -> Warden:
        return self._warden

    async def run(self, invocation: Invocation, target: Target, *, sink: OutputSink, stop: Stop, fence: int) -> Outcome:
        """Run `invocation.argv`; `target` is not looked at. Raises WardenLost, and whatever the sink raises."""
        problem = _problem_of(invocation)
        if problem is not None:
            return problem
        if invocation.run_as and invocation.run_as != own_user():
            # The warden could not end another user's processes, so nothing could be stopped in time.
            sentence = (
                f"Commands on this machine run as {own_user()}, not as {invocation.run_as}. Leave run_as out, or reach"
                " the machine by ssh."
            )
            return Outcome(None, ErrorCode.NOT_SUPPORTED, sentence)
        if stop.requested:
            return Outcome(None, ErrorCode.NOT_STARTED, f"Not started: {_because(stop)}.", stop_confirmed=True)
        try:
            started = self._start(invocation, fence, sink)
        except StartFailed as failure:
            return _explain(failure, invocation)
        except OSError as error:
            return Outcome(None, ErrorCode.START_FAILED, f"The worker has no room for one more command: {error}.")
        delivery = asyncio.ensure_future(started.output.deliver())
        try:
            await started.run.wait_until_started()
            return await self._see_through(started, delivery, stop)
        except StartFailed as failure:
            return _explain(failure, invocation)
        finally:
            delivery.cancel()
            started.close()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await delivery

    async def probe(self, target: Target, *, timeout_seconds: float) -> Outcome:
        """This machine is there as long as its worker is."""
        return Outcome(0)

    async def close(self) -> None:
        """Nothing is kept between commands; the worker ends its warden itself."""

    def _start(self, invocation: Invocation, fence: int, sink: OutputSink) -> _Started:
        with contextlib.ExitStack() as on_failure, contextlib.ExitStack() as always:

            def pipe() -> tuple[int, int]:
                read_end, write_end = os.pipe()
                return read_end, write_end

            stdout, stdout_theirs = pipe()
            on_failure.callback(os.close, stdout)
            always.callback(os.close, stdout_theirs)
            stderr, stderr_theirs = pipe()
            on_failure.callback(os.close, stderr)
            always.callback(os.close, stderr_theirs)
            stdin: int | None = None
            if invocation.stdin:
                stdin_theirs, stdin = pipe()
                on_failure.callback(os.close, stdin)
            else:
                stdin_theirs = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            always.callback(os.close, stdin_theirs)
            run = self._warden.run(
                argv=invocation.argv,
                environment=clean_environment(invocation.environment, fence=fence),
                directory=invocation.working_directory or "/",
                standard=(stdin_theirs, stdout_theirs, stderr_theirs),
            )
            on_failure.pop_all()
        feeder = InputPipe(stdin, invocation.stdin or b"") if stdin is not None else None
        return _Started(run, OutputPipes({"stdout": stdout, "stderr": stderr}, sink), feeder)

    async def _see_through(self, started: _Started, delivery: asyncio.Future[None], stop: Stop) -> Outcome:
        run = started.run
        asked = asyncio.ensure_future(stop.wait())
        try:
            waiting: set[asyncio.Future[Any]] = {run.exited, asked, delivery}
            while not run.exited.done() and not asked.done():
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if delivery.done():
                    delivery.result()  # what the sink raised ends the command, and goes to the engine
                    waiting.discard(delivery)
            if run.exited.done():
                return await self._after_exit(started, delivery, stop)
            return await self._after_stop(started, delivery, stop)
        finally:
            asked.cancel()

    async def _after_exit(self, started: _Started, delivery: asyncio.Future[None], stop: Stop) -> Outcome:
        run = started.run
        if run.exited.result() != 0 and self._failed_leave_nothing:
            # Before its output is waited for: what goes on holds the output open.
            aftermath = await run.stop(0)
            await self._deliver_rest(started, delivery)
            return _outcome(run, aftermath, stop if stop.requested else None, {}, was_stopped=False)
        await asyncio.wait({delivery}, timeout=OUTPUT_GRACE_SECONDS)
        has_ended = started.output.has_ended
        aftermath = await run.finish(look_around=not has_ended)
        await self._deliver_rest(started, delivery)
        data: dict[str, object] = {}
        if not has_ended and (aftermath.killed or aftermath.outside):
            data["output_held_open"] = True
        return _outcome(run, aftermath, stop if stop.requested else None, data, was_stopped=False)

    async def _after_stop(self, started: _Started, delivery: asyncio.Future[None], stop: Stop) -> Outcome:
        grace = self._grace_seconds if stop.grace_seconds is None else stop.grace_seconds
        if stop.reason == "lease_lost":  # it has no right to let anything go on, not even to tidy up
            grace = 0.0
        stopping = asyncio.ensure_future(started.run.stop(grace))
        losing = asyncio.ensure_future(stop.wait_for_lease_lost())
        try:
            await asyncio.wait({stopping, losing}, return_when=asyncio.FIRST_COMPLETED)
            aftermath = await stopping if stopping.done() else await started.run.stop(0)
        finally:
            losing.cancel()
            stopping.cancel()
        await self._deliver_rest(started, delivery)
        return _outcome(started.run, aftermath, stop, {}, was_stopped=True)

    async def _deliver_rest(self, started: _Started, delivery: asyncio.Future[None]) -> None:
        """Everything that was written before the end is in the pipes by now; nobody is waited for any more."""
        started.output.stop_waiting()
        await delivery


def clean_environment(given: Mapping[str, str], *, fence: int) -> dict[str, str]:
    """What a command sees: nothing that the worker has in its own environment."""
    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # a container may run under a number without a name
        home = "/"
    return {
        "PATH": SEARCH_PATH,
        "HOME": home,
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        **given,
        "OPSCONDUCTOR_FENCE": str(fence),
    }


def make(surroundings: Surroundings) -> LocalConnector:
    return LocalConnector(surroundings.warden, grace_seconds=surroundings.grace_seconds)


def own_user() -> str:
    """The user that this worker, and so every command on this machine, runs as."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _problem_of(invocation: Invocation) -> Outcome | None:
    sentence = None
    if not invocation.argv or not invocation.argv[0]:
        sentence = "There is no command to run."
    elif any("\0" in word for word in invocation.argv):
        sentence = "The command holds a NUL byte, which no program can be given."
    elif any("\0" in name + value or "=" in name or not name for name, value in invocation.environment.items()):
        sentence = "The environment holds a name or value that no program can be given."
    if sentence is not None:
        return Outcome(None, ErrorCode.INVALID_INVOCATION, sentence)
    directory = invocation.working_directory
    if directory is not None and (not directory.startswith("/") or "\0" in directory):
        return Outcome(None, ErrorCode.WORKING_DIRECTORY, f"The working directory {directory!r} is not absolute.")
    return None


def _explain(failure: StartFailed, invocation: Invocation) -> Outcome:
    command, number = invocation.argv[0], failure.number
    reason = os.strerror(number)
    if failure.at == "expired":
        sentence = "Not started: the worker's right to run commands had ended before. Another worker may take it."
        return Outcome(None, ErrorCode.NOT_STARTED, sentence)
    if failure.at == "directory":
        sentence = f"The working directory {failure.path!r} cannot be entered: {reason}."
        return Outcome(None, ErrorCode.WORKING_DIRECTORY, sentence)
    if failure.at == "size" or number == errno.E2BIG:
        return Outcome(
            None,
            ErrorCode.ARGUMENTS_TOO_LONG,
            "The command's arguments and environment are longer than the system takes. Give long content on standard "
            "input or in a file.",
        )
    if failure.at == "search" and number == errno.ENOENT:
        return Outcome(None, ErrorCode.COMMAND_NOT_FOUND, f"There is no command {command!r} in PATH.")
    if number in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
        if os.path.lexists(failure.path):
            sentence = f"{command!r} is there, but the interpreter in its first line, or its loader, is not."
        else:
            sentence = f"There is no file {command!r}."
        return Outcome(None, ErrorCode.COMMAND_NOT_FOUND, sentence)
    if number in (errno.EACCES, errno.EPERM):
        return Outcome(None, ErrorCode.PERMISSION_DENIED, f"{failure.path or command!r} may not be executed: {reason}.")
    if number == errno.ENOEXEC:
        sentence = f"{command!r} is no program of this machine, and has no first line that names an interpreter."
        return Outcome(None, ErrorCode.INVALID_INVOCATION, sentence)
    return Outcome(None, ErrorCode.START_FAILED, f"{command!r} could not be started: {reason}.")


def _because(stop: Stop) -> str:
    return {
        "user": "it was cancelled",
        "timeout": "its time was up",
        "lease_lost": "the worker lost its lease",
        "shutdown": "the worker is stopping",
        "approval_withdrawn": "its approval was withdrawn",
    }.get(stop.reason or "", f"asked to stop ({stop.reason})")


def _outcome(
    run: Run, aftermath: Aftermath, stop: Stop | None, data: dict[str, object], *, was_stopped: bool
) -> Outcome:
    exited: int | None = run.exited.result() if run.exited.done() and run.exited.exception() is None else None
    exit_code = exited if exited is None or exited >= 0 else 128 - exited
    if aftermath.killed and not was_stopped:
        data["killed_leftovers"] = aftermath.killed
    if aftermath.outside:
        data["left_running"] = list(aftermath.outside)
    if exited is not None and exited < 0:
        data["signal"] = -exited
    confirmed = aftermath.is_gone if stop is not None or run.ended_by else None
    if was_stopped or run.ended_by:
        why = _because(stop) if stop is not None else "the worker could not keep its lease"
        sentence = f"Stopped: {why}."
        if not aftermath.is_gone:
            left = ", ".join(map(str, aftermath.left)) or str(run.pid)
            data["left_running"] = list(aftermath.left)
            sentence += f" These processes could not be ended and may still run: {left}."
        return Outcome(exit_code, ErrorCode.STOPPED, sentence, confirmed, data)
    if exited is not None and exited < 0:
        sentence = f"The command was ended by signal {-exited} ({_signal_name(-exited)})."
        return Outcome(exit_code, ErrorCode.KILLED_BY_SIGNAL, sentence, confirmed, data)
    return Outcome(exit_code, None, None, confirmed, data)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "no name"
