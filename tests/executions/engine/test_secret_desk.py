"""The desk at which the executions of a worker ask for secrets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator

import pytest
from django.db import connections

from executions.connectors.base import Invocation, Stop
from executions.engine.attempt import Refusal
from executions.engine.secret_desk import READERS, SecretDesk
from executions.engine.secrets import RunSecrets, Stopped
from executions.engine.state import ExecutionState, StepState, TargetState
from safety.models import AuditRecord, Tenant, User
from safety.secrets import StoredSecret
from safety.secrets.keeping import store_secret
from safety.secrets.releasing import Wanted

pytestmark = [pytest.mark.django_db(transaction=True)]


VALUE = "only-for-this-test"


@pytest.fixture
def asker() -> User:
    store_secret(Tenant.objects.get(name="default"), "there", VALUE, by=None)
    return User.objects.create_superuser("asker")


@pytest.fixture
def desk() -> Iterator[SecretDesk]:
    desk = SecretDesk()
    yield desk
    in_each_thread(desk, connections.close_all)
    desk.close()


def in_each_thread(desk: SecretDesk, do: Callable[[], object]) -> None:
    """Let each of the desk's threads do something after all that it has been given; return when all have."""
    together = threading.Barrier(READERS)
    for done in [desk._pool.submit(lambda: (together.wait(30), do())) for _ in range(READERS)]:
        done.result()


async def test_a_wish_that_cannot_be_answered_harms_no_other(asker: User, desk: SecretDesk) -> None:
    """Nobody has this number: whatever fails about one execution, the others go on."""
    bad = Wanted(asker.tenant_id, asker.pk + 1, 1, "a", frozenset({"there"}))
    good = Wanted(asker.tenant_id, asker.pk, 2, "a", frozenset({"there"}))
    answers = await asyncio.gather(*(desk.read(one) for one in (bad, good, bad, good)), return_exceptions=True)
    assert [isinstance(answer, KeyError) for answer in answers] == [True, False, True, False]
    for answer in (answers[1], answers[3]):
        assert isinstance(answer, dict)
        stored = answer["there"]
        assert isinstance(stored, StoredSecret)
        assert stored.value(None) == VALUE


async def test_who_asks_again_in_the_moment_when_both_readers_end_is_served(asker: User, desk: SecretDesk) -> None:
    """Both questions are answered in one turn of the loop: no reader is left, and none is taken for one."""
    wanted = Wanted(asker.tenant_id, asker.pk, 1, "a", frozenset({"there"}))

    answered = []

    async def ask() -> None:
        answered.append(await desk.read(wanted))
        if len(answered) == 1:  # the first of the two, whichever it is: the other would help it out
            await desk.read(wanted)

    go_on = hold_up(desk)
    try:
        asking = await taken_one_by_one(desk, ask)
    finally:
        go_on.set()
    in_each_thread(desk, lambda: None)  # the loop stands still meanwhile: it finds both answers at once
    await asyncio.wait_for(asyncio.gather(*asking), 10)


def hold_up(desk: SecretDesk) -> threading.Event:
    """Keep each of the desk's threads busy until the event is set."""
    go_on = threading.Event()
    busy = threading.Barrier(READERS + 1)
    for _ in range(READERS):
        desk._pool.submit(lambda: (busy.wait(30), go_on.wait(60)))
    busy.wait(30)
    return go_on


async def taken_one_by_one(
    desk: SecretDesk, ask: Callable[[], Coroutine[None, None, object]]
) -> list[asyncio.Task[object]]:
    """Ask once for each reader of a desk that is held up, so that each has a wish of its own to serve."""
    asking = []
    for number in range(READERS):
        asking.append(asyncio.create_task(ask()))
        for _ in range(2):  # in the first turn it asks, in the second a reader takes its wish
            await asyncio.sleep(0)
        assert desk._pool._work_queue.qsize() == number + 1
    return asking


async def test_what_nobody_waits_for_any_more_is_not_read(asker: User, desk: SecretDesk) -> None:
    wanted, given_up = (Wanted(asker.tenant_id, asker.pk, number, "a", frozenset({"there"})) for number in (1, 2))
    go_on = hold_up(desk)
    try:
        asking = await taken_one_by_one(desk, lambda: desk.read(wanted))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(desk.read(given_up), 0.01)
    finally:
        go_on.set()
    await asyncio.wait_for(asyncio.gather(*asking), 10)
    uses = AuditRecord.objects.filter(action="secret.use").values_list("data__execution", flat=True)
    assert desk._pool.submit(list, uses).result() == [1] * READERS


def resumed(asker: User) -> ExecutionState:
    """An execution with a step that used a secret and ended under another worker."""
    inputs = {"command": "true", "environment": {"PW": {"type": "secret", "path": "there"}}}
    steps = [StepState(1, "uses", {"inputs": inputs}, "succeeded", [TargetState(1, None, "succeeded", 1, 0, "")])]
    return ExecutionState(
        7, asker.tenant_id, asker.pk, "running", "execute_modify", 60, 60, {"secrets": ["there"], "steps": []}, steps
    )


async def test_all_that_begin_together_after_a_resume_know_what_to_hide(asker: User, desk: SecretDesk) -> None:
    """Also those who come when the first has begun to ask, or has been stopped while it did."""
    secrets = RunSecrets(resumed(asker), desk)
    bare, stop = Invocation(argv=("true",), timeout_seconds=60), Stop()
    stopped = asyncio.create_task(secrets.masking(bare, stop))
    others = [asyncio.create_task(secrets.masking(bare, Stop())) for _ in range(3)]
    await asyncio.sleep(0)
    stop.request("user")
    try:
        with pytest.raises(Stopped):
            await stopped
        assert [one.secret_values for one in await asyncio.gather(*others)] == [(VALUE,)] * 3
        assert (await secrets.masking(bare, Stop())).secret_values == (VALUE,)
    finally:
        secrets.close()


async def test_a_step_waits_no_longer_for_its_secrets_than_it_may_take(asker: User, desk: SecretDesk) -> None:
    """Nor do the targets that wait for the first one's answer; and whoever has more time gets it, of the same batch."""
    inputs = {"environment": {"PW": {"type": "secret", "path": "there"}}, "command": "true"}
    said = {"inputs": inputs, "tool": "shell", "idempotent": False, "action_class": "modify"}
    step = StepState(1, "a", said, "running", names_secrets=True)
    planned = {"asset_id": 1, "name": "localhost", "connection": "local", "row": {}}
    targets = [TargetState(number, planned, "running", 1, None, "") for number in range(3)]
    state = ExecutionState(7, asker.tenant_id, asker.pk, "running", "execute_modify", 60, 60, {}, [step])
    hurried, patient = RunSecrets(state, desk), RunSecrets(state, desk)
    other = Wanted(asker.tenant_id, asker.pk, 8, "b", frozenset({"there"}))

    async def refusal_for(target: TargetState) -> Refusal:
        with pytest.raises(Refusal) as refused:
            await hurried.invocation_for(step, target, inputs, 0.2, Stop())
        return refused.value

    go_on = hold_up(desk)
    try:
        others = [asyncio.create_task(desk.read(other)) for _ in range(READERS)]
        waiting = asyncio.create_task(patient.invocation_for(step, targets[0], inputs, 60, Stop()))
        refusals = await asyncio.wait_for(asyncio.gather(*map(refusal_for, targets)), 10)
    finally:
        go_on.set()
    assert [(one.code, one.hopeless) for one in refusals] == [("secret_unavailable", False)] * 3
    assert "within 0.2 s" in str(refusals[0])
    assert (await asyncio.wait_for(waiting, 10)).secret_values == (VALUE,)
    await asyncio.wait_for(asyncio.gather(*others), 10)
    patient.close()
