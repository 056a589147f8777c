"""A step on a thousand hosts at once: nobody waits for the slowest, and output does not fill the worker's memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from django.conf import settings
from django.db import connection
from django.db.models import Sum
from django.test import Client

from executions.engine.turns import AT_A_TURN, Turns
from executions.models import Event, OutputChunk, StepTarget
from safety.models import User
from tests.executions.engine.conftest import Workers, assert_nothing_left_behind, ended, make_hosts, shell, status_of
from tests.installations import wait_until

Begin = Callable[..., int]
MANY = 1000
LOUD = 30
PRINTED = 700_000  # bytes of each of the loud: together well above what may wait to be written
MOST_MEMORY = 300 * 1024 * 1024


@pytest.fixture
def hosts(transactional_db: None, requester: User, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(settings, "APPROVAL_TARGETS", MANY)
    return make_hosts("w", MANY)


def counted(execution_id: int) -> Counter[str]:
    return Counter(StepTarget.objects.filter(execution_id=execution_id).values_list("status", flat=True))


@pytest.mark.django_db(transaction=True)
def test_a_thousand_hosts_at_once_do_not_wait_for_the_one_that_never_answers(
    workers: Workers, begin: Begin, hosts: list[str], requester: User, client: Client, tmp_path: Path
) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    command = (
        f"case {{{{ name }}}} in {hosts[0]}) while test -e {hold}; do sleep .1; done;; *) echo {{{{ name }}}};; esac"
    )
    execution_id = begin(shell("all", command, targets=hosts, timeout_seconds=100, fan_out={"max_concurrent": MANY}))
    workers.start(WORKER_PROCESSES="1", LEASE_SECONDS="10")
    others = {"succeeded": MANY - 1, "running": 1}
    wait_until(lambda: counted(execution_id) == others, seconds=90, what="all but the one that never answers")
    (worker,) = workers.pids()
    memory = psutil.Process(worker).memory_info().rss
    client.force_login(requester)
    table = client.get(f"/executions/{execution_id}/hosts/")
    hold.unlink()
    assert ended(execution_id).status == "succeeded"
    assert memory < MOST_MEMORY, f"{memory / 1e6:.0f} MB"
    assert len(table.json()["hosts"]) == MANY
    assert len(table.content) < 100 * MANY, "the matrix stays small: some tens of bytes for each host"
    events = Event.objects.filter(execution_id=execution_id)
    assert events.filter(kind__startswith="target.").count() == 2 * MANY, "one when it begins, one when it ends"
    assert OutputChunk.objects.filter(execution_id=execution_id).count() == MANY - 1
    assert_nothing_left_behind()


@pytest.mark.django_db(transaction=True)
def test_hosts_that_print_much_at_once_are_slowed_down_and_starve_nobody(
    workers: Workers, begin: Begin, hosts: list[str]
) -> None:
    """Twenty megabytes from thirty hosts at once: all of it is kept, the worker stays small, a neighbour ends."""
    loud = f"head -c {PRINTED} /dev/zero | tr '\\0' 'x' | fold -w 99"
    wide = begin(shell("all", loud, targets=hosts[:LOUD], timeout_seconds=100, fan_out={"max_concurrent": LOUD}))
    neighbour = begin(shell("small", "echo ok", targets=hosts[-1:]))
    workers.start(WORKER_PROCESSES="1")
    (worker,) = workers.pids()
    most = 0
    while status_of(wide) in ("queued", "running"):
        most = max(most, psutil.Process(worker).memory_info().rss)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(0.02)")
    last, first = ended(wide), ended(neighbour)
    assert (last.status, first.status) == ("succeeded", "succeeded")
    assert first.finished_at < last.finished_at, "the neighbour did not wait for the loud ones"  # type: ignore[operator]
    rows = StepTarget.objects.filter(execution_id=wide)
    assert rows.aggregate(sum=Sum("stdout_bytes"))["sum"] >= LOUD * PRINTED
    assert not rows.filter(truncated=True).exists()
    assert most < MOST_MEMORY, f"{most / 1e6:.0f} MB"
    assert_nothing_left_behind()


async def test_of_a_thousand_that_are_ready_at_once_a_few_go_on_in_each_turn_of_the_loop() -> None:
    turns, loop = Turns(), asyncio.get_running_loop()
    passed: list[int] = []
    turn = 0

    def count() -> None:
        nonlocal turn
        turn += 1
        if len(passed) < MANY:
            loop.call_soon(count)

    async def one() -> None:
        await turns.take()
        passed.append(turn)

    count()
    await asyncio.gather(*(one() for _ in range(MANY)))
    assert len(passed) == MANY
    assert max(Counter(passed).values()) <= AT_A_TURN
    assert turn < 2 * MANY // AT_A_TURN, "and no turn goes by unused"
