"""Commands through the automation service, each a request that waits in a thread for its end."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from executions.clients.automation import AutomationService, ExecuteAnswer
from executions.clients.client import Patience
from executions.clients.transport import Call
from executions.clients.troubles import GivenUp, ServiceTrouble
from executions.connectors.automation.orders import NotOrdered, Order, nothing_on, order_of
from executions.connectors.automation.results import (
    found_by_probe,
    outcome_of,
    outcome_of_trouble,
    probe_not_begun,
    silent_probe,
)
from executions.connectors.base import ErrorCode, Invocation, Outcome, OutputSink, Stop, Stream, Target

if TYPE_CHECKING:
    from executions.connectors.registry import Surroundings

MOST_AT_ONCE = 100  # what comes beyond waits for its turn; a stop never does
# The service counts the same seconds, but begins later: its own answer is to come before ours is given up.
MARGIN_SECONDS = 15.0
PATIENCE_SECONDS = 25.0  # for a service that surely was not reached
GIVING_UP_SECONDS = 5.0
PART_BYTES = 32 * 1024
LARGEST_OF_PROBE = 1024 * 1024  # bytes of its answer: a machine may greet everybody at length


class AutomationConnector:
    """Commands on machines that the automation service reaches; `local` is that service's own machine.

    A stop cuts the request. The service cannot be told to end the command, so it may go on: that is never confirmed.
    For the same reason a command may outlive a worker that is lost; all there is then is the fencing number in its
    environment.
    """

    def __init__(self, service: AutomationService, surroundings: Surroundings) -> None:
        self.service = service
        self._surroundings = surroundings
        self._pool = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="automation")
        self._room: tuple[object, asyncio.Semaphore] = (None, asyncio.Semaphore(MOST_AT_ONCE))

    async def run(self, invocation: Invocation, target: Target, *, sink: OutputSink, stop: Stop, fence: int) -> Outcome:
        """Have the command run. Raises whatever the sink raises."""
        try:
            order = order_of(invocation, target, fence)
        except NotOrdered as refusal:
            return Outcome(None, refusal.code, str(refusal))
        turns = self._turns()
        if not await _got_turn(turns, stop):
            return _not_started()
        try:
            if not self._surroundings.may_act:
                sentence = "Not started: the worker's right to act had ended before. Another worker may take it."
                return Outcome(None, ErrorCode.NOT_STARTED, sentence)
            return await self._run(order, invocation, target, sink, stop)
        finally:
            turns.release()

    async def probe(self, target: Target, *, timeout_seconds: float) -> Outcome:
        """Have a command run that does nothing: the service has no other way to say whether it reaches a machine."""
        try:
            order = order_of(nothing_on(target, timeout_seconds), target, 0)
        except NotOrdered as refusal:
            return Outcome(None, refusal.code, str(refusal))
        call = Call()
        patience = Patience(timeout_seconds, timeout_seconds, timeout_seconds)
        turns = self._turns()
        try:
            async with asyncio.timeout(timeout_seconds), turns:
                if not self._surroundings.may_act:
                    return Outcome(None, ErrorCode.NOT_STARTED, "Not started: the worker's right to act had ended.")
                ask = partial(self.service.execute, order.body, patience=patience, call=call, largest=LARGEST_OF_PROBE)
                return found_by_probe(await asyncio.get_running_loop().run_in_executor(self._pool, ask), target)
        except TimeoutError:
            return silent_probe(target, timeout_seconds, was_sent=call.sent)
        except ServiceTrouble as trouble:
            return silent_probe(target, timeout_seconds) if call.sent and call.late else probe_not_begun(trouble)
        finally:
            call.abort()  # nobody waits for the answer any more

    async def close(self) -> None:
        """Nothing is kept between runs but the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _turns(self) -> asyncio.Semaphore:
        """One for each event loop: a semaphore belongs to the loop that it is first waited in."""
        loop = asyncio.get_running_loop()
        if self._room[0] is not loop:
            self._room = (loop, asyncio.Semaphore(MOST_AT_ONCE))
        return self._room[1]

    async def _run(self, order: Order, invocation: Invocation, target: Target, sink: OutputSink, stop: Stop) -> Outcome:
        call = Call()
        limit = order.seconds + MARGIN_SECONDS
        patience = Patience(limit, limit, min(PATIENCE_SECONDS, order.seconds), waits_for_breaker=True)
        largest = 2 * invocation.max_output_bytes + 1024 * 1024  # as JSON, a line end takes two
        ask = partial(self.service.execute, order.body, patience=patience, call=call, largest=largest)
        asking = asyncio.get_running_loop().run_in_executor(self._pool, ask)
        asking.add_done_callback(lambda done: done.cancelled() or done.exception())  # also when nobody waits for it
        asked = asyncio.ensure_future(stop.wait())
        try:
            waiting: set[asyncio.Future[Any]] = {asking, asked}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                call.abort()
                # Ends at once, but for a connection that is being made: that one sends nothing when it is there.
                await asyncio.wait({asking}, timeout=GIVING_UP_SECONDS)
            if not asking.done():
                return _stopped(target) if call.sent else _not_started()
            return await self._result(asking, target, sink)
        finally:
            asked.cancel()
            call.abort()  # cancelled from outside: nobody waits for the answer any more

    async def _result(self, asking: asyncio.Future[ExecuteAnswer], target: Target, sink: OutputSink) -> Outcome:
        try:
            answer = asking.result()
        except GivenUp as trouble:
            return _stopped(target) if trouble.sent else _not_started()
        except ServiceTrouble as trouble:
            return outcome_of_trouble(trouble)
        await _print(sink, "stdout", answer.stdout)
        await _print(sink, "stderr", answer.stderr)
        return outcome_of(answer, target.connection)


def make(surroundings: Surroundings) -> AutomationConnector:
    service = AutomationService(surroundings.options["automation"])
    service.client.put_in_use()
    return AutomationConnector(service, surroundings)


async def _got_turn(turns: asyncio.Semaphore, stop: Stop) -> bool:
    """Wait for a turn, but no longer than until somebody asks to stop; return whether it is ours now."""
    if stop.requested:
        return False
    turn, asked = asyncio.ensure_future(turns.acquire()), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({turn, asked}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.requested:
            return True
        if turn.done():
            turns.release()
        return False
    except asyncio.CancelledError:
        if turn.done() and not turn.cancelled():
            turns.release()
        raise
    finally:
        turn.cancel()
        asked.cancel()


async def _print(sink: OutputSink, stream: Stream, text: str) -> None:
    data = text.encode("utf-8", "replace")
    for start in range(0, len(data), PART_BYTES):
        written = sink.write(stream, data[start : start + PART_BYTES])
        if written is not None:
            await written


def _not_started() -> Outcome:
    return Outcome(None, ErrorCode.NOT_STARTED, "Not started: asked to stop before it was sent.", stop_confirmed=True)


def _stopped(target: Target) -> Outcome:
    where = target.name or target.address or "the machine"
    sentence = (
        f"Stopped waiting. The automation service cannot be told to end a command: it may still run on {where}. Look"
        " there before anything else is done to it."
    )
    return Outcome(None, ErrorCode.STOPPED, sentence, stop_confirmed=False)
