"""Secrets in a worker: fetched in a thread just before a step, given to it alone, and forgotten when it is over.

What stays until the execution ends are the values as such, so that its output can be masked; they are never written.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from executions.connectors.base import Invocation, Stop, Target
from executions.engine.attempt import Refusal, invocation_of, tool_of
from executions.engine.credentials import credential_of, secrets_of
from executions.engine.reach import credential_path, moved, target_of
from executions.engine.secret_desk import SecretDesk
from executions.engine.service_credentials import check_place, is_of_service
from executions.engine.state import OVER, ExecutionState, StepState, TargetState
from executions.plans.secret_references import references_in, with_values
from executions.plans.secret_values import SecretReference
from executions.states import StepStatus
from safety.masking import known
from safety.secrets import SecretUnavailable, StoredSecret
from safety.secrets.releasing import CREDENTIAL, Answers, Wanted

T = TypeVar("T")

PATIENCE_SECONDS = 30.0  # for a store that is down; nothing ran, so asking again is safe whatever the step does
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 8.0

ONLY_CONNECTED_TO = ("probe", "api")  # a check of an endpoint: it is not signed in to


class Stopped(Exception):
    """The engine asked to stop before the secrets were there. Nothing ran."""


class RunSecrets:
    """The secrets of one execution under one lease. `values` are all that were fetched for it so far.

    It is the same tuple until there are more: the mask of a step that runs compares no more than that.
    """

    __slots__ = ("_credentials", "_desk", "_earlier", "_held", "_learning", "_locks", "_state", "_troubles", "values")

    def __init__(self, state: ExecutionState, desk: SecretDesk) -> None:
        self._state = state
        self._desk = desk
        self._held: dict[int, dict[str, StoredSecret]] = {}
        self._locks: dict[int, asyncio.Lock] = {}
        self._credentials: dict[int, Answers] = {}  # by step: of all its machines, by path
        steps = (*state.steps, *state.rollbacks)
        self._earlier = [step for step in steps if _has_begun(step)] if state.names_secrets else []
        self._learning = asyncio.Lock()
        self._troubles: dict[int, SecretUnavailable] = {}  # what a step waits for to pass
        self.values: tuple[str, ...] = ()

    async def invocation_for(
        self, step: StepState, target: TargetState, inputs: Mapping[str, Any], limit: float, stop: Stop
    ) -> Invocation:
        """Fill secrets into rendered inputs and prepare them. Raises Refusal, or Stopped when asked to stop meanwhile.

        The targets of a step share what was read once; another attempt reads again, since a value that was refused
        on the target may have been replaced.
        """
        references = references_in(inputs)
        stored = await _unless_stopped(self._stored_for(step, references, limit, again=target.attempt > 1), stop)
        values = _values_of(references, stored)
        self._learn(values.values())
        return invocation_of(step, target, with_values(inputs, values), limit, self.values)

    async def reach_of(self, step: StepState, target: TargetState, limit: float, stop: Stop) -> Target:
        """Return the target with the credential that its asset names. Raises Refusal, or Stopped.

        Its neighbours do not suffer from one whose secret is missing: each is refused for itself.
        """
        where = target_of(self._state, target.planned)
        path = credential_path(self._state, target.planned)
        tool = tool_of(step)
        only_connected = (tool.connector, where.connection) == ONLY_CONNECTED_TO
        if not path or only_connected or not tool.uses_credential_for(step.planned["inputs"]):
            return where
        if changes := moved(self._state, target.planned):
            raise Refusal(
                "target_moved",
                f"{where.name} is not where the plan has it: {changes}. Its credential was not used. Submit the plan"
                " again, so that it is for the machine as it is now.",
                hopeless=True,
            )
        answer = await _unless_stopped(self._credential(step, path, limit, again=target.attempt > 1), stop)
        try:
            if isinstance(answer, SecretUnavailable):
                raise answer
            if is_of_service(path):
                if not answer.entries:  # the service has nothing to sign in with: the connector says what it needs
                    return where
                check_place(answer, where)
            credential = credential_of(answer)
        except SecretUnavailable as trouble:
            raise Refusal(trouble.code, str(trouble), hopeless=not trouble.transient) from None
        self._learn(secrets_of(credential))
        return replace(where, credential=credential)

    async def _credential(
        self, step: StepState, path: str, limit: float, *, again: bool
    ) -> StoredSecret | SecretUnavailable:
        """Ask once for all the machines of a step. Waits as `_stored_for` does for a store that is down."""
        patience = min(limit, PATIENCE_SECONDS)
        until = asyncio.get_running_loop().time() + patience
        try:
            async with asyncio.timeout_at(until), self._locks.setdefault(step.id, asyncio.Lock()):
                held = self._credentials.setdefault(step.id, {})
                pause = FIRST_PAUSE_SECONDS
                while True:
                    if path not in held or again:
                        paths = {path} if again else {p for t in step.targets if (p := self._path_of(t))}
                        held.update(await self._desk.credentials(self._wanted(step, frozenset(paths), "credential")))
                    answer = held[path]
                    if not isinstance(answer, SecretUnavailable) or not answer.transient:
                        return answer
                    self._troubles[step.id] = answer
                    again = True
                    await asyncio.sleep(pause * random.uniform(0.7, 1.0))
                    pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        except TimeoutError:
            return self._troubles.get(step.id) or _too_slow(path, patience)

    def _path_of(self, target: TargetState) -> str:
        if target.status in OVER or moved(self._state, target.planned):
            return ""
        return credential_path(self._state, target.planned)

    async def masking(self, invocation: Invocation, stop: Stop) -> Invocation:
        """Return the invocation with every value to be hidden in what it prints. Raises Refusal, or Stopped."""
        if self._earlier:
            await _unless_stopped(self._learn_earlier(), stop)
        return replace(invocation, secret_values=self.values) if self.values else invocation

    def close(self) -> None:
        """The execution is over here: its values need not be looked for in what this process logs any more."""
        known.release(self.values)

    def forget(self, step: StepState) -> None:
        """The step is over: nothing of what was read for it is kept."""
        self._held.pop(step.id, None)
        self._credentials.pop(step.id, None)
        self._locks.pop(step.id, None)
        self._troubles.pop(step.id, None)

    async def _stored_for(
        self, step: StepState, references: frozenset[SecretReference], limit: float, *, again: bool
    ) -> dict[str, StoredSecret]:
        """Wait no longer than for half a minute or as long as the step may take, whatever the wait is for: another
        target of the step that asks, the desk, or a store that is down. Raises Refusal."""
        paths = frozenset(reference.path for reference in references)
        patience = min(limit, PATIENCE_SECONDS)
        until = asyncio.get_running_loop().time() + patience
        try:
            async with asyncio.timeout_at(until), self._locks.setdefault(step.id, asyncio.Lock()):
                held = self._held.get(step.id)
                if held is None or again or not paths <= held.keys():
                    held = self._held[step.id] = await self._read(step, paths, until)
                return held
        except TimeoutError:
            trouble = self._troubles.get(step.id) or _too_slow(min(paths), patience)
            raise Refusal(trouble.code, str(trouble)) from None

    async def _read(self, step: StepState, paths: frozenset[str], until: float) -> dict[str, StoredSecret]:
        """Ask until all are there; a store that is down is asked again, but not in vain. Raises Refusal."""
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE_SECONDS
        while True:
            answers = await self._desk.read(self._wanted(step, paths, step.kind))
            trouble = _gravest(answers)
            if trouble is None:
                self._troubles.pop(step.id, None)
                return {path: answer for path, answer in answers.items() if isinstance(answer, StoredSecret)}
            if not trouble.transient or loop.time() + pause > until:
                raise Refusal(trouble.code, str(trouble), hopeless=not trouble.transient)
            self._troubles[step.id] = trouble
            await asyncio.sleep(pause * random.uniform(0.7, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _learn_earlier(self) -> None:
        """After a lost worker: read what earlier steps used once more, so that later output is masked as theirs was.

        A value that has been replaced since, or is gone, cannot be hidden, and no step needs it: that stops nothing.
        While it is only not known, because a store is down, nothing is printed: this waits, and is refused in the end.

        Steps, and the targets of one, begin at the same time: each waits here until all has been learned. A step leaves
        the list only when it has been, so that whoever comes next goes on where one who was stopped left off.
        """
        async with self._learning:
            while self._earlier:
                await self._learn_from(self._earlier[-1])
                self._earlier.pop()

    async def _learn_from(self, step: StepState) -> None:
        """Raises Refusal when a store does not answer for as long as for any secret."""
        references = references_in(step.planned["inputs"])
        answers = await self._read_again(step, frozenset(reference.path for reference in references), "masking")
        for reference in references:
            answer = answers[reference.path]
            if isinstance(answer, StoredSecret):
                with contextlib.suppress(SecretUnavailable):
                    self._learn([answer.value(reference.key)])
        begun = [target for target in step.targets if target.attempt]
        paths = frozenset(path for target in begun if (path := credential_path(self._state, target.planned)))
        for answer in (await self._read_again(step, paths, CREDENTIAL)).values():
            if isinstance(answer, StoredSecret):
                with contextlib.suppress(SecretUnavailable):
                    self._learn(secrets_of(credential_of(answer)))

    async def _read_again(self, step: StepState, paths: frozenset[str], purpose: str) -> Answers:
        if not paths:
            return {}
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + PATIENCE_SECONDS, FIRST_PAUSE_SECONDS
        ask = self._desk.credentials if purpose == CREDENTIAL else self._desk.read
        while True:
            answers = await ask(self._wanted(step, paths, purpose))
            troubles = [one for one in answers.values() if isinstance(one, SecretUnavailable) and one.transient]
            if not troubles:
                return answers
            if loop.time() + pause > until:
                raise Refusal(troubles[0].code, f"What step '{step.key}' used cannot be hidden. {troubles[0]}")
            await asyncio.sleep(pause * random.uniform(0.7, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def _wanted(self, step: StepState, paths: frozenset[str], purpose: str) -> Wanted:
        state = self._state
        return Wanted(state.tenant_id, state.actor_id, state.id, step.key, paths, purpose)

    def _learn(self, values: Any) -> None:
        new = [value for value in dict.fromkeys(values) if value not in self.values]
        if new:
            known.hold(new)
            self.values += tuple(new)


def _has_begun(step: StepState) -> bool:
    return step.status != StepStatus.PENDING or any(target.attempt for target in step.targets)


def _gravest(answers: Answers) -> SecretUnavailable | None:
    """Return a trouble that does not pass before one that does: waiting for the second would be in vain."""
    troubles = [answer for answer in answers.values() if isinstance(answer, SecretUnavailable)]
    return min(troubles, key=lambda trouble: trouble.transient, default=None)


def _too_slow(path: str, seconds: float) -> SecretUnavailable:
    return SecretUnavailable(
        path,
        f"The secret {path} was not there within {seconds:.3g} s: what was asked for it did not answer in time.",
        "See whether the store of secrets answers this worker, and how fast; the step can then be retried.",
        transient=True,
    )


def _values_of(
    references: frozenset[SecretReference], stored: Mapping[str, StoredSecret]
) -> dict[SecretReference, str]:
    try:
        return {reference: stored[reference.path].value(reference.key) for reference in sorted(references, key=_order)}
    except SecretUnavailable as trouble:
        raise Refusal(trouble.code, str(trouble), hopeless=True) from None


def _order(reference: SecretReference) -> tuple[str, str]:
    return reference.path, reference.key or ""


async def _unless_stopped(work: Coroutine[Any, Any, T], stop: Stop) -> T:
    """Return what `work` gives, or raise Stopped as soon as the engine asks to stop."""
    working = asyncio.ensure_future(work)
    asked = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({working, asked}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise Stopped
    finally:
        asked.cancel()
        working.cancel()
