"""Three hosts, each with its own worker; one is cut off from the database while it works, and later comes back."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from executions.models import Execution, Step
from executions.services import Submission, submit
from opsconductor.embedded_postgres.installation import DATABASE, ROLE
from queueing.models import DeadLetter, Worker
from safety.models import User
from tests.executions.engine.conftest import FINAL, assert_nothing_left_behind, ended, shell, status_of
from tests.executions.engine.test_lost_workers import make_asset
from tests.hosts.network import Host, Network
from tests.installations import PROJECT, wait_until

SECRET_KEY = "only-for-this-test-" * 3
LEASE_SECONDS = 3


class Line(NamedTuple):
    """What a command writes every tenth of a second as long as it lives."""

    execution: str
    step: str
    host: str
    pid: str


def environment(network: Network, **more: str) -> dict[str, str]:
    """All that the workers get. The short lease is there to make the test short."""
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    return {"PATH": path, "DATABASE_URL": network.url, "LEASE_SECONDS": str(LEASE_SECONDS), **more}


def ticking(key: str, log: Path, number: int, asset: str, seconds: float, **fields: Any) -> dict[str, Any]:
    line = f'echo "{number} {key} $(hostname) $$" >> {log}'
    command = f"for tick in $(seq {round(seconds * 10)}); do {line}; sleep 0.1; done"
    return shell(key, command, targets=[asset], **fields)


def lines_of(log: Path) -> list[Line]:
    return [Line(*line.split()) for line in log.read_text().splitlines()] if log.exists() else []


def steps_in(log: Path) -> set[str]:
    return {line.step for line in lines_of(log)}


def workers_of(host: Host) -> set[int]:
    """Return the ids of its workers that stand in the register."""
    return set(Worker.objects.filter(host=host.name, stopped_at=None).values_list("pk", flat=True))


@pytest.mark.parametrize("way", ["unplug", "deafen", "silence"])
def test_a_host_that_is_cut_off_stops_in_time_and_works_again_when_it_is_back(
    way: str, network: Network, requester: User, tmp_path: Path
) -> None:
    """Which way the packets vanish: both, those to it (so its renewals still arrive), or those from it."""
    one, two, three = (network.add(name) for name in ("one", "two", "three"))
    assets = [make_asset(f"asset-{number}") for number in range(8)]
    executions: list[int] = []

    def log_of(asset: int) -> Path:
        return tmp_path / f"asset-{asset}"

    def begin(asset: int, *seconds: float, **fields: Any) -> int:
        log, number = log_of(asset), len(executions)
        steps = [ticking(f"s{n}", log, number, assets[asset], length, **fields) for n, length in enumerate(seconds)]
        execution = submit(Submission({"title": f"{number}", "steps": steps}), by=requester).execution_id
        executions.append(execution)
        return execution

    # The one that will be cut off has the first ones to itself. One of the hosts takes part in django-q2's tasks too.
    one.start(environment(network, **({"SECRET_KEY": SECRET_KEY} if way == "silence" else {})))
    wait_until(lambda: len(workers_of(one)) == 2, what="the workers of host one")
    its_first = workers_of(one)
    changing, repeatable = begin(0, 0.2, 8), begin(1, 0.2, 8, idempotent=True)
    wait_until(lambda: all("s1" in steps_in(log_of(asset)) for asset in (0, 1)), what="the start of the long steps")
    two.start(environment(network))
    three.start(environment(network))
    wait_until(lambda: len(workers_of(two) | workers_of(three)) == 4, what="the workers of the other hosts")
    others = workers_of(two) | workers_of(three)
    for asset in range(8):
        begin(asset, 0.3, 0.5)
        begin(asset, 0.3, 1.5, 0.3, idempotent=asset % 2 == 1)

    getattr(one, way)()
    wait_until(
        lambda: not Execution.objects.filter(pk__in=executions).exclude(status__in=FINAL).exists(),
        seconds=60,
        what="the end of all executions without host one",
    )
    assert workers_of(two) | workers_of(three) == others, "no other worker was harmed"
    assert (status_of(changing), status_of(repeatable)) == ("needs_attention", "succeeded")
    assert_each_was_run_as_it_may(tmp_path)
    assert_nothing_left_behind()

    one.mend()
    wait_until(lambda: workers_of(one) - its_first, seconds=40, what="a new worker of the host that was cut off")
    assert (two.stop(), three.stop()) == (0, 0)
    assert {ended(begin(asset, 0.2)).status for asset in range(3)} == {"succeeded"}
    assert {lines_of(log_of(asset))[-1].host for asset in range(3)} == {"one"}
    assert set(Worker.objects.filter(pk__in=its_first).values_list("state", flat=True)) == {"lost"}
    wait_until(lambda: len(workers_of(one)) == 2, what="all its workers")
    assert_each_was_run_as_it_may(tmp_path)
    assert_nothing_left_behind()
    assert one.stop() == 0
    wait_until(lambda: not one.processes(), what="the end of everything that ran on the host")


def assert_each_was_run_as_it_may(folder: Path) -> None:
    """Never two at once on an asset; nothing that is not idempotent twice; unknown is only what host one had begun."""
    runs: Counter[tuple[str, str]] = Counter()
    where: dict[tuple[str, str], set[str]] = {}
    for log in folder.iterdir():
        one_after_the_other = [line for line, _ in groupby(lines_of(log))]
        assert len(set(one_after_the_other)) == len(one_after_the_other), f"two at once: {one_after_the_other}"
        for line in one_after_the_other:
            runs[line.execution, line.step] += 1
            where.setdefault((line.execution, line.step), set()).add(line.host)
    for step in Step.objects.select_related("execution"):
        idempotent = is_idempotent(step)
        run = (step.execution.title, step.key)
        told = f"{run}: {step.status}, run {runs[run]} times on {where.get(run)}"
        if step.status == "succeeded":
            assert runs[run] >= 1, told
            assert runs[run] == 1 or idempotent, told
        elif step.status == "unknown":
            assert not idempotent, told
            assert where.get(run, {"one"}) == {"one"}, told
            assert runs[run] <= 1, told
        else:
            assert (step.status, runs[run]) == ("pending", 0), told
    stuck = set(Execution.objects.filter(status="needs_attention").values_list("pk", flat=True))
    assert stuck == set(DeadLetter.objects.filter(state="open").values_list("execution_id", flat=True))


def is_idempotent(step: Step) -> bool:
    planned = step.execution.plan.document["steps"]
    return any(one["id"] == step.key and one["idempotent"] for one in planned)


HOLD_A_ROW = """
import django, sys
django.setup()
from queueing.connections import connect
with connect("test") as connection, connection.transaction():
    connection.execute("SELECT FROM queueing_queuecontrol FOR UPDATE")
    print("ready", flush=True)
    sys.stdin.read()
"""

ASK_AGAIN = """
import django, sys
django.setup()
from django.db import OperationalError, connection
with connection.cursor() as cursor:
    cursor.execute("SELECT 1")
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        cursor.execute("SELECT 2")
    except OperationalError:
        sys.exit(3)
"""


def test_a_host_that_is_cut_off_and_the_server_both_notice_it_soon(network: Network, requester: User) -> None:
    """By themselves, the server would keep the locks of an open transaction for two hours, and the host would wait a
    quarter of an hour for an answer."""
    host = network.add("one")
    holder, asker = (begin_python(host, network, program) for program in (HOLD_A_ROW, ASK_AGAIN))
    with psycopg.connect(host=network.socket_folder, dbname=DATABASE, user=ROLE) as other:
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("SELECT FROM queueing_queuecontrol FOR UPDATE NOWAIT")
        other.rollback()
        host.unplug()
        assert asker.stdin is not None
        asker.stdin.write(b"go on\n")
        asker.stdin.flush()
        other.execute("SET lock_timeout = '20s'")
        other.execute("SELECT FROM queueing_queuecontrol FOR UPDATE")
    assert asker.wait(timeout=15) == 3
    holder.kill()
    for process in (holder, asker):
        process.communicate(timeout=10)


def begin_python(host: Host, network: Network, program: str) -> subprocess.Popen[bytes]:
    """Run a program on a host, with the project's settings, and wait until it says that it is ready."""
    process = subprocess.Popen(
        [*host.enter, sys.executable, "-c", program],
        env=environment(network, SECRET_KEY=SECRET_KEY, DJANGO_SETTINGS_MODULE="opsconductor.settings"),
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process
