"""One invocation on one Windows machine: a shell, the agent in it, its output, and its end, seen or not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from executions.connectors.base import ErrorCode, Invocation, Outcome, OutputSink, Stop, Target
from executions.connectors.winrm.checks import problem_of, start_problem
from executions.connectors.winrm.logins import Unusable, login_for
from executions.connectors.winrm.orders import lines_of
from executions.connectors.winrm.reading import Beginning
from executions.connectors.winrm.shell import Abandoned, Login, RemoteShell
from executions.connectors.winrm.troubles import TROUBLE, outcome_of

if TYPE_CHECKING:
    from executions.connectors.registry import Surroundings

T = TypeVar("T")
log = logging.getLogger(__name__)

# Each run waits for output in a thread. What comes beyond waits for its turn; a stop never does.
MOST_AT_ONCE = 64
STOPPERS = 16


class WinRMConnector:
    """Programs and scripts on Windows machines, each in a WinRS shell of its own, over HTTPS.

    A program gets its arguments exactly as they are, the invocation's own variables and OPSCONDUCTOR_FENCE, and the
    given bytes as standard input. A batch file is refused: cmd.exe would read its arguments.

    Stop is the signal to terminate and the removal of the shell, which ends the processes in it; it is confirmed when
    the machine has said so. There is no polite way before.
    """

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._pool = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="winrm")
        self._stoppers = ThreadPoolExecutor(STOPPERS, thread_name_prefix="winrm-stop")
        self._room: tuple[object, asyncio.Semaphore] = (None, asyncio.Semaphore(MOST_AT_ONCE))

    async def run(self, invocation: Invocation, target: Target, *, sink: OutputSink, stop: Stop, fence: int) -> Outcome:
        """Run the script, or else argv. Raises whatever the sink raises."""
        problem = problem_of(invocation)
        if problem is not None:
            return problem
        try:
            login = login_for(target, self._surroundings.options)
        except Unusable as unusable:
            return Outcome(None, ErrorCode.CREDENTIAL_UNUSABLE, str(unusable))
        room = self._room_here()
        if not await _got_room(room, stop):
            return _not_started(stop)
        try:
            if not self._surroundings.may_act:
                sentence = "Not started: the worker's right to act had ended before. Another worker may take it."
                return Outcome(None, ErrorCode.NOT_STARTED, sentence)
            return await self._run(invocation, login, target, sink, stop, fence)
        finally:
            room.release()

    async def probe(self, target: Target, *, timeout_seconds: float) -> Outcome:
        """Sign in, have an empty shell made and removed."""
        try:
            login = login_for(target, self._surroundings.options)
        except Unusable as unusable:
            return Outcome(None, ErrorCode.CREDENTIAL_UNUSABLE, str(unusable))
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._in_thread(lambda: _sign_in(login))
        except TimeoutError:
            sentence = f"{target.name} ({login.host}:{login.port}) did not answer within {timeout_seconds:g} s."
            return Outcome(None, ErrorCode.UNREACHABLE, sentence)
        except TROUBLE as error:
            return outcome_of(error, login, target, may_have_begun=False)
        return Outcome(0, data={"address": f"{login.host}:{login.port}", "authentication": login.authentication})

    async def close(self) -> None:
        """Nothing is kept between runs but the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._stoppers.shutdown(wait=False)

    # -- one run ------------------------------------------------------------------------------------------------------

    async def _run(
        self, invocation: Invocation, login: Login, target: Target, sink: OutputSink, stop: Stop, fence: int
    ) -> Outcome:
        try:
            shell = RemoteShell(login)
        except TROUBLE as error:
            return outcome_of(error, login, target, may_have_begun=False)
        mark = secrets.token_hex(16)
        orders = lines_of(invocation, mark=mark, fence=fence)
        work = asyncio.ensure_future(self._converse(shell, orders, Beginning(mark), invocation, login, target, sink))
        asked = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({work, asked}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            return await self._stop(shell, work, login, target, stop)
        finally:
            asked.cancel()
            if not work.done():  # cancelled, or stopped: what it waits for ends in its thread
                work.cancel()

    async def _converse(
        self,
        shell: RemoteShell,
        orders: bytes,
        beginning: Beginning,
        invocation: Invocation,
        login: Login,
        target: Target,
        sink: OutputSink,
    ) -> Outcome:
        is_over = False
        try:
            await self._in_thread(lambda: _begin(shell, orders))
            while True:
                received = await self._in_thread(shell.receive)
                stdout = beginning.take(received.stdout)
                if received.is_done:
                    stdout += beginning.rest()
                await _write(sink, stdout, received.stderr)
                if received.is_done:
                    is_over = True
                    where = f"{target.name or login.host} ({login.host}:{login.port})"
                    return _result(received.exit_code, beginning, stdout + received.stderr, invocation, where)
        except Abandoned:
            return Outcome(None, ErrorCode.NOT_STARTED, "Not started: asked to stop before.", stop_confirmed=True)
        except TROUBLE as error:
            return outcome_of(error, login, target, may_have_begun=shell.may_have_begun)
        finally:
            shell.abandon()
            tidying = asyncio.get_running_loop().run_in_executor(self._stoppers, _tidy, shell, is_over)
            if is_over:  # otherwise nobody waits for a machine that may not answer
                await asyncio.shield(tidying)

    async def _stop(
        self, shell: RemoteShell, work: asyncio.Future[Outcome], login: Login, target: Target, stop: Stop
    ) -> Outcome:
        if shell.abandon():
            return _not_started(stop)
        where = f"{target.name or login.host} ({login.host}:{login.port})"
        try:
            await asyncio.get_running_loop().run_in_executor(self._stoppers, shell.end)
        except TROUBLE as error:
            trouble = outcome_of(error, login, target, may_have_begun=False).error
            sentence = f"It was asked to stop, but {where} did not say that it did: {trouble}"
            return Outcome(None, ErrorCode.STOPPED, sentence, stop_confirmed=False)
        # Whatever exit code arrives now, nobody can tell whether it ended by itself.
        return Outcome(None, ErrorCode.STOPPED, f"Ended on {where}, with its shell.", stop_confirmed=True)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _room_here(self) -> asyncio.Semaphore:
        """A semaphore belongs to the event loop that waited for it first, and a worker has one loop after another."""
        loop = asyncio.get_running_loop()
        if self._room[0] is not loop:
            self._room = (loop, asyncio.Semaphore(MOST_AT_ONCE))
        return self._room[1]


def _begin(shell: RemoteShell, orders: bytes) -> None:
    try:
        shell.open()
        shell.start(orders)
    except Abandoned:
        # Nobody else can know that the shell is there: whoever stopped it may have come before it was.
        with contextlib.suppress(*TROUBLE):
            shell.end()
        shell.hang_up()
        raise


def _sign_in(login: Login) -> None:
    shell = RemoteShell(login)
    try:
        shell.open()
        shell.close()
    finally:
        shell.hang_up()


def _tidy(shell: RemoteShell, is_over: bool) -> None:
    try:
        if is_over:
            shell.close()
        else:
            shell.end()
    except TROUBLE as error:
        # It has said how it ended, or nobody knows anyway: the machine removes the shell when it misses us.
        log.info("A shell could not be removed: %s", type(error).__name__)
    finally:
        shell.hang_up()


def _result(code: int | None, beginning: Beginning, printed: bytes, invocation: Invocation, where: str) -> Outcome:
    if beginning.refused is not None:
        return start_problem(beginning.refused, invocation, where)
    if not beginning.is_ready:
        told = " ".join(printed.decode("utf-8", "replace").split())[:300]
        sentence = f"Windows PowerShell on {where} did not begin (exit code {code}); nothing was run. It says: {told}"
        return Outcome(None, ErrorCode.START_FAILED, sentence)
    if code is None:
        return Outcome(None, ErrorCode.INVALID_ANSWER, f"{where} says that it ended, and not with which exit code.")
    return Outcome(code - 2**32 if code >= 2**31 else code)  # as Windows shows it: 0xC0000005 is negative


async def _write(sink: OutputSink, stdout: bytes, stderr: bytes) -> None:
    """Hand output on; nothing more is asked for before there is room for it."""
    if stdout and (waiting := sink.write("stdout", stdout)) is not None:
        await waiting
    if stderr and (waiting := sink.write("stderr", stderr)) is not None:
        await waiting


async def _got_room(room: asyncio.Semaphore, stop: Stop) -> bool:
    """Wait for a turn, but not when asked to stop."""
    acquiring = asyncio.ensure_future(room.acquire())
    asked = asyncio.ensure_future(stop.wait())
    got = False
    try:
        await asyncio.wait({acquiring, asked}, return_when=asyncio.FIRST_COMPLETED)
        got = acquiring.done() and not stop.requested
        return got
    finally:
        asked.cancel()
        if not got and not acquiring.cancel():
            room.release()


def _not_started(stop: Stop) -> Outcome:
    return Outcome(None, ErrorCode.NOT_STARTED, f"Not started: asked to stop ({stop.reason}).", stop_confirmed=True)
