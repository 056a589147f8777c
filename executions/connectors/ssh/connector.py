"""Runs commands on machines over SSH: no login shell reads them, and none outlives the worker's right."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Coroutine
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncssh

from executions.connectors.base import Credential, ErrorCode, Invocation, Outcome, OutputSink, Stop, Target, Upload
from executions.connectors.ssh.far_side import Script, exec_line, problem_of
from executions.connectors.ssh.outcomes import (
    NO_RIGHT,
    OUTLASTED,
    because,
    not_begun,
    of_a_refused_channel,
    of_no_hello,
    of_the_end,
    run_as_refused,
)
from executions.connectors.ssh.pool import Pool, Shared
from executions.connectors.ssh.rights import Rights
from executions.connectors.ssh.session import WINDOW_BYTES, FarCommand
from executions.connectors.ssh.showing import host_keys_at
from executions.connectors.ssh.signing_in import explained
from executions.connectors.ssh.upload import NoSftp, Placing
from executions.connectors.ssh.way import NoWay, Way, no_way, way_to, way_to_look_at

if TYPE_CHECKING:
    from executions.connectors.registry import Surroundings

HELLO_SECONDS = 30.0  # for the login shell, or sudo, once signed in
STOP_PATIENCE_SECONDS = 10.0  # for the guard's word, after the grace
SEARCH_SECONDS = 50.0  # more, for a guard that said it has signalled: it looks through a busy machine for what is left
LOOK_SECONDS = 15.0  # for finding out what became of a command whose connection was lost


class _Early(Exception):
    """It ends before anything of the command was sent."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.error)
        self.outcome = outcome


class SshConnector:
    """Commands on other machines, each in a session of its own there, watched by a guard on the same machine.

    A command gets the environment that sshd (or sudo) gives, the invocation's variables, OPSCONDUCTOR_FENCE and
    OPSCONDUCTOR_RUN; a standard input that is empty or the given bytes. When it has ended, what is left in its process
    group is ended too; what opened a session of its own (a service that became a daemon) stays.

    Stop is SIGTERM to its group, and after the grace SIGKILL to all that carries its mark. The guard does so by itself
    when the connection drops, and when the worker has not said in time that it still has its right.
    """

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._agents = frozenset(surroundings.options.get("ssh_agent_sockets") or ())
        self._pool = Pool(known_hosts=str(surroundings.options.get("ssh_known_hosts") or ""))
        self._rights = Rights(surroundings)

    @property
    def pool(self) -> Pool:
        return self._pool

    async def run(self, invocation: Invocation, target: Target, *, sink: OutputSink, stop: Stop, fence: int) -> Outcome:
        """Run `invocation.argv` on `target`. Raises what the sink raises; the command is ended then."""
        problem = problem_of(invocation)
        if problem is not None:
            return problem
        try:
            way = way_to(target, self._agents)
            if invocation.upload is not None and not invocation.run_as and not invocation.check:
                with contextlib.suppress(NoSftp):  # then its command puts it in place
                    return await self._put(way, invocation.upload, sink, stop)
            return await self._run(way, invocation, target, sink, stop, fence)
        except NoWay as none:
            return none.outcome
        except _Early as early:
            return early.outcome

    async def probe(self, target: Target, *, timeout_seconds: float) -> Outcome:
        """Sign in, and run nothing."""
        try:
            shared = await self._pool.borrow(way_to(target, self._agents), seconds=timeout_seconds)
        except NoWay as none:
            return none.outcome
        try:
            connection = shared.connection
            key = connection.get_server_host_key()
            return Outcome(
                0,
                data={
                    "server": connection.get_extra_info("server_version", ""),
                    "host_key": key.get_fingerprint() if key else "",
                    "username": connection.get_extra_info("username", ""),
                },
            )
        finally:
            self._pool.give_back(shared)

    async def show_host_keys(self, target: Target, *, timeout_seconds: float) -> Outcome:
        """Ask the host which keys it shows; jump hosts before it are signed in to, the host itself is not."""
        jump: Shared | None = None
        try:
            way = way_to_look_at(target, self._agents)
            if way.before is not None:
                jump = await self._pool.borrow(way.before, is_jump=True, seconds=timeout_seconds)
            keys = await host_keys_at(
                way.host, way.port, seconds=timeout_seconds, through=jump.connection if jump else None
            )
        except NoWay as none:
            return none.outcome
        except (OSError, asyncssh.Error) as error:
            return explained(error, way, timeout_seconds).outcome
        finally:
            if jump is not None:
                self._pool.give_back(jump)
        if not keys:
            return Outcome(None, ErrorCode.INVALID_ANSWER, f"{way.name} showed no host key.")
        return Outcome(0, data={"host_keys": [key.fact for key in keys]})

    async def close(self) -> None:
        self._rights.close()
        await self._pool.close()

    # -- one run ------------------------------------------------------------------------------------------------------

    async def _run(
        self, way: Way, invocation: Invocation, target: Target, sink: OutputSink, stop: Stop, fence: int
    ) -> Outcome:
        self._refuse_to_begin(stop)
        script = Script(secrets.token_hex(16), uuid4().hex, fence)
        shared, command = await self._until_stopped(self._begin(way, invocation, target, script.nonce), stop, way)
        try:
            self._refuse_to_begin(stop)
            command.begin(script.of(invocation, self._rights.at(command)))
            outcome = await self._see_through(command, invocation, sink, stop)
        finally:
            command.close()
            self._pool.give_back(shared)
        if outcome is None:  # the connection was lost in the middle
            self._pool.discard(shared)
            outcome = await self._look_after(way, script, invocation.run_as, command, stop)
        if outcome.stop_confirmed is False and not command.endings:
            return await self._outlast(command, outcome, stop)
        return outcome

    async def _put(self, way: Way, upload: Upload, sink: OutputSink, stop: Stop) -> Outcome:
        """Put a file in place over SFTP. Raises NoSftp, NoWay, _Early."""
        self._refuse_to_begin(stop)
        shared = await self._until_stopped(self._pool.borrow(way), stop, way)
        try:
            sftp = await self._until_stopped(_sftp_of(shared), stop, way)
            try:
                placing = Placing(sftp, upload, lambda: self._rights.may_begin and not stop.requested)
                outcome = await self._until_placed(placing, stop)
            finally:
                sftp.exit()
        finally:
            self._pool.give_back(shared)
        if outcome.exit_code == 0 and (waiting := sink.write("stdout", f"wrote {upload.path}\n".encode())):
            await waiting
        return outcome

    async def _until_placed(self, placing: Placing, stop: Stop) -> Outcome:
        """Until the move was asked for it can be broken off, and then the old file is there as it was."""
        doing = asyncio.ensure_future(placing.run())
        asked = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({doing, asked}, return_when=asyncio.FIRST_COMPLETED)
            if not doing.done() and placing.is_moving:
                await asyncio.wait({doing}, timeout=STOP_PATIENCE_SECONDS)
            if doing.done():
                return doing.result()
            return Outcome(None, ErrorCode.STOPPED, f"Stopped: {because(stop)}.", not placing.is_moving)
        finally:
            asked.cancel()
            doing.cancel()
            await asyncio.gather(doing, return_exceptions=True)

    def _refuse_to_begin(self, stop: Stop) -> None:
        if stop.requested:
            raise _Early(not_begun(stop))
        if not self._rights.may_begin:
            raise _Early(Outcome(None, ErrorCode.NOT_STARTED, NO_RIGHT))

    async def _until_stopped(self, work: Coroutine[Any, Any, Any], stop: Stop, way: Way) -> Any:
        """Do what comes before the command, for as long as nobody wants it to end. Raises NoWay, _Early."""
        doing = asyncio.ensure_future(work)
        asked = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({doing, asked}, return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                return doing.result()
            if stop.reason == "timeout":  # the time limit was shorter than our patience: it is the host that is late
                raise no_way(ErrorCode.UNREACHABLE, f"{way.name} did not answer before the time limit of the step.")
            raise _Early(not_begun(stop))
        finally:
            asked.cancel()
            doing.cancel()
            await asyncio.gather(doing, return_exceptions=True)

    async def _begin(self, way: Way, invocation: Invocation, target: Target, nonce: str) -> tuple[Shared, FarCommand]:
        """Have somebody on the other side who waits for the script. A connection that turns out to be dead before is
        replaced once, without a word. Raises NoWay, _Early."""
        is_second = False
        while True:
            shared, command = await self._open(way, invocation, nonce)
            is_ready = False
            try:
                await self._greet(command, invocation.run_as, target)
                is_ready = True
                return shared, command
            except _Early:
                if is_second or not command.was_lost:
                    raise
                self._pool.discard(shared)
                is_second = True
            finally:
                if not is_ready:
                    command.close()
                    self._pool.give_back(shared)

    async def _open(self, way: Way, invocation: Invocation, nonce: str) -> tuple[Shared, FarCommand]:
        """Open a channel; over a new connection when a kept one turns out to be dead. Raises NoWay."""
        tries = 0
        while True:
            tries += 1
            shared = await self._pool.borrow(way)
            opening: asyncio.Future[tuple[Any, Any]] = asyncio.ensure_future(
                shared.connection.create_session(
                    lambda: FarCommand(nonce), exec_line(invocation.run_as), encoding=None, window=WINDOW_BYTES
                )
            )
            try:
                # Not to be broken off half-way: the host would keep a session that nobody knows of.
                _, command = await asyncio.shield(opening)
                return shared, command
            except (asyncssh.Error, OSError) as error:
                is_dead = not shared.is_open or not isinstance(error, asyncssh.ChannelOpenError)
                may_try_again = tries < 2 if is_dead else tries < 5 and self._pool.has_fewer_sessions(shared)
                if is_dead:
                    self._pool.discard(shared)
                self._pool.give_back(shared)
                if not may_try_again:
                    raise of_a_refused_channel(way, error, is_dead=is_dead) from None
            except asyncio.CancelledError:
                opening.add_done_callback(partial(self._close_unwanted, shared))
                raise

    def _close_unwanted(self, shared: Shared, opening: asyncio.Future[tuple[Any, Any]]) -> None:
        if not opening.cancelled() and opening.exception() is None:
            opening.result()[1].close()
        self._pool.give_back(shared)

    async def _greet(self, command: FarCommand, run_as: str, target: Target) -> None:
        """Wait until the reader on the other side says hello. sudo gets its password when it asks. Raises _Early."""
        credential = target.credential or Credential()
        password = credential.sudo_password or credential.password
        answered = 0
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                while command.clock is None:
                    if command.is_closed:
                        raise _Early(of_no_hello(command, run_as, target.name))
                    if run_as and command.prompts > answered:
                        if answered or not password:
                            raise _Early(run_as_refused(run_as, target.name, has_password=bool(password)))
                        answered += 1
                        command.send(password.encode() + b"\n")
                    await command.wait_for_change()
        except TimeoutError:
            raise _Early(of_no_hello(command, run_as, target.name)) from None

    async def _see_through(
        self, command: FarCommand, invocation: Invocation, sink: OutputSink, stop: Stop
    ) -> Outcome | None:
        """From the script on to the end. None when the connection was lost before."""
        delivery = asyncio.ensure_future(command.deliver(sink))
        asked = asyncio.ensure_future(stop.wait())
        helpers: list[asyncio.Future[Any]] = [delivery, asked]
        if invocation.stdin:
            helpers.append(asyncio.ensure_future(command.feed(invocation.stdin)))
        try:
            with self._rights.kept_up(command):
                await asyncio.wait({delivery, asked}, return_when=asyncio.FIRST_COMPLETED)
                if not delivery.done():
                    await self._stop(command, delivery, stop)
                if delivery.done():
                    delivery.result()  # what the sink raised goes to the engine
            return of_the_end(command, stop, invocation)
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)

    async def _stop(self, command: FarCommand, delivery: asyncio.Future[None], stop: Stop) -> None:
        """Have it ended, and wait until the guard says that it is, or the patience is over."""
        grace = self._surroundings.grace_seconds if stop.grace_seconds is None else stop.grace_seconds
        losing = asyncio.ensure_future(stop.wait_for_lease_lost())
        try:
            if stop.reason != "lease_lost":  # without its lease a worker may let nothing go on, not even to tidy up
                command.stop(grace)
                for seconds in (grace + STOP_PATIENCE_SECONDS, SEARCH_SECONDS):
                    done, _ = await asyncio.wait(
                        {delivery, losing}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
                    )
                    if done or not command.is_stopping:
                        break
                if losing not in done:
                    return
            command.stop(0)
            await asyncio.wait({delivery}, timeout=STOP_PATIENCE_SECONDS)
        finally:
            losing.cancel()

    async def _outlast(self, command: FarCommand, outcome: Outcome, stop: Stop) -> Outcome:
        """Nobody said that it ended: keep the outcome back until its guard, by what that was told last, has ended it.

        With the outcome the lock is free, and somebody else acts on that machine; a retry does, too. Who has lost the
        lease does not wait: the guard's time is over before the lease is, and nobody has the lock before that."""
        if command.right_ends_at is None:
            return outcome
        losing = asyncio.ensure_future(stop.wait_for_lease_lost())
        try:
            lost, _ = await asyncio.wait({losing}, timeout=max(0.0, command.right_ends_at - time.monotonic()))
        finally:
            losing.cancel()
        return outcome if lost else replace(outcome, error=f"{outcome.error} {OUTLASTED}")

    # -- after a lost connection --------------------------------------------------------------------------------------

    async def _look_after(self, way: Way, script: Script, run_as: str, command: FarCommand, stop: Stop) -> Outcome:
        """Say what became of a command whose connection was lost: look once, over a new connection."""
        left: str | None = None
        if self._rights.may_begin and stop.reason != "lease_lost" and not run_as:
            with contextlib.suppress(TimeoutError, NoWay, asyncssh.Error, OSError):
                async with asyncio.timeout(LOOK_SECONDS):
                    left = await self._look(way, script)
        is_gone = left == "gone"
        if is_gone:
            tail = "Nothing of the command is left there; how far it came is not known."
        elif left in (None, "unknown"):
            tail = "Whether the command still runs there could not be found out."
        else:
            tail = f"These processes of it could not be ended and may still run: {left}."
        if stop.requested:
            sentence = f"The connection to {way.name} was lost while it was being stopped ({because(stop)}). {tail}"
            return Outcome(None, ErrorCode.STOPPED, sentence, is_gone)
        return Outcome(
            None, ErrorCode.CONNECTION_LOST, f"The connection to {way.name} was lost in the middle. {tail}", is_gone
        )

    async def _look(self, way: Way, script: Script) -> str | None:
        look = Script(secrets.token_hex(16), script.marker, 0)
        shared, command = await self._open(way, Invocation(), look.nonce)
        try:
            while command.clock is None and not command.is_closed:
                await command.wait_for_change()
            found = _Remembering()
            command.begin(look.of_look())
            await command.deliver(found)
            return command.answer
        finally:
            command.close()
            self._pool.give_back(shared)


async def _sftp_of(shared: Shared) -> asyncssh.SFTPClient:
    try:
        return await shared.connection.start_sftp_client()
    except (asyncssh.Error, OSError):
        raise NoSftp from None  # if the connection is dead, the way without SFTP finds out


class _Remembering:
    """A sink for what nobody wants."""

    def write(self, stream: object, data: bytes) -> None:
        """Only the guard's own line counts."""


__all__ = ["SshConnector"]
