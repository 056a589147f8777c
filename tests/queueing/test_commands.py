"""drain, resume and scale_workers as an operator uses them."""

from __future__ import annotations

import io
import json
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections as django_connections
from django.utils import timezone

from queueing import control, pool
from queueing.management.by import command_actor
from queueing.models import Cluster, Pool, QueueControl, QueueEntry, ScalingDecision, Worker
from queueing.queue import Connection
from safety.models import AuditRecord
from tests.queueing.lines import claim_ids, enqueue, entry, finish, new_worker, several

pytestmark = [pytest.mark.django_db]


def run(*arguments: object) -> tuple[int, str]:
    """Return the exit status and everything that was said."""
    out = io.StringIO()
    try:
        call_command(*map(str, arguments), stdout=out, stderr=out)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue()
    return 0, out.getvalue()


@pytest.fixture
def cluster(db: None) -> Cluster:
    return Cluster.objects.create(
        name="c1", host="ops-1", pid=77, version="0", processes=2, initial_processes=2, max_processes=4
    )


def test_the_queue_is_drained_in_the_name_of_who_ran_the_command(connection: Connection) -> None:
    assert run("drain", "--reason", "upgrade", "--wait", "1") == (
        0,
        "The queue takes nothing in and hands nothing out.\nThe queue is drained: nothing runs any more.\n",
    )
    row = QueueControl.objects.get()
    assert (row.draining, row.reason, row.changed_by) == (True, "upgrade", command_actor())
    assert command_actor().startswith("command:")
    assert run("resume") == (0, "The queue is open again.\n")
    assert run("resume") == (0, "The queue was not drained.\n")


@pytest.mark.parametrize("which", [(), ("--workers",), ("--pool", "heavy")])
def test_a_dry_run_says_what_would_change_and_changes_nothing(
    connection: Connection, worker: int, which: tuple[str, ...]
) -> None:
    enqueue(entry(1))
    claim_ids(connection, worker)
    before = _all_rows()

    status, said = run("drain", *which, "--dry-run")
    assert (status, "nothing was changed" in said) == (0, True)
    assert ("1 execution runs there now" in said) == (which != ("--pool", "heavy"))
    assert _all_rows() == before

    run("drain", *which)
    drained = _all_rows()
    assert drained != before
    assert "nothing was changed" in run("resume", *which, "--dry-run", "--yes")[1]
    assert _all_rows() == drained


def test_a_dry_run_refuses_what_the_drain_would() -> None:
    with pytest.raises(CommandError, match="No worker runs on"):
        run("drain", "--host", "nosuch", "--dry-run")


def _at_a_terminal(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal(f"{answer}\n"))


def _all_rows() -> list[Any]:
    tables = (QueueControl, Worker, Cluster, Pool, AuditRecord)
    return [list(model.objects.order_by("pk").values()) for model in tables]


@pytest.mark.parametrize(("answer", "drained"), [("", False), ("n", False), ("y", True)])
def test_a_drain_asks_on_a_terminal(monkeypatch: pytest.MonkeyPatch, answer: str, drained: bool) -> None:
    _at_a_terminal(monkeypatch, answer)
    if drained:
        assert run("drain")[0] == 0
    else:
        with pytest.raises(CommandError, match="Nothing was changed"):
            run("drain")
    assert control.is_draining() == drained
    _at_a_terminal(monkeypatch, "n")
    assert run("drain", "--yes")[0] == 0
    assert control.is_draining()


def test_a_drain_that_cannot_wait_any_longer_ends_with_4_and_stays(connection: Connection, worker: int) -> None:
    enqueue(entry(1), entry(2))
    claim_ids(connection, worker)
    status, said = run("drain", "--wait", "0.3")
    assert (status, control.is_draining()) == (4, True)
    assert "2 executions run still. It stays drained" in said
    status, said = run("drain")
    assert (status, "--wait SECONDS waits" in said) == (0, True)


@several
def test_a_drain_tells_how_far_it_is_and_ends_as_soon_as_nothing_runs(connections: Any) -> None:
    worker, claimer = new_worker(), connections()
    enqueue(entry(1), entry(2))
    assert claim_ids(claimer, worker) == [1, 2]
    said: list[tuple[int, str]] = []

    def drain() -> None:
        try:
            said.append(run("drain", "--wait", "30"))
        finally:
            django_connections.close_all()

    thread = threading.Thread(target=drain)
    thread.start()
    while not control.is_draining():
        threading.Event().wait(0.02)
    finish(claimer, 1)
    threading.Event().wait(0.6)
    assert not said, "one still runs"
    finish(claimer, 2)
    thread.join(timeout=10)
    (status, told), *_ = said
    assert status == 0
    assert told.splitlines()[1:] == [
        "2 executions run still.", "1 execution runs still.", "The queue is drained: nothing runs any more."
    ]  # fmt: skip


def test_some_workers_drain_while_the_queue_goes_on(connection: Connection) -> None:
    here, there, other = new_worker(host="a"), new_worker(host="a"), new_worker(host="b")
    enqueue(entry(1), entry(2))
    assert claim_ids(connection, other, 1) == [1]
    assert run("drain", "--host", "a", "--wait", "1", "--reason", "kernel") == (
        0,
        "2 workers drain.\nDrained: nothing runs on the workers of a any more.\n",
    )
    assert set(Worker.objects.filter(draining=True).values_list("pk", flat=True)) == {here, there}
    assert not control.is_draining()
    assert run("drain", "--worker", other, here)[1].startswith("1 worker drains.\n1 execution runs still;")
    assert run("drain", "--workers", "--wait", "0.1")[0] == 4
    assert run("resume", "--worker", here) == (0, "1 worker works again.\n")
    assert run("resume", "--workers") == (0, "2 workers work again.\n")
    assert run("resume", "--workers") == (0, "No change: of all workers, none drained.\n")


def test_a_pool_is_paused_and_a_name_that_nobody_knows_is_doubted(connection: Connection) -> None:
    enqueue({**entry(1), "pool": "heavy"})
    assert run("drain", "--pool", "heavy", "--wait", "1") == (
        0,
        "The pool heavy is paused: nothing of it is handed out.\nDrained: nothing runs on the pool heavy any more.\n",
    )
    assert control.pool_state("heavy").paused
    assert "is it the right name?" in run("drain", "--pool", "haevy")[1]
    assert run("resume", "--pool", "heavy") == (0, "The pool heavy is open again.\n")
    assert run("resume", "--pool", "heavy") == (0, "No change: the pool heavy was not paused.\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("drain", "--worker", "999999"), r"No worker 999999 is there.*scale_workers --show"),
        (("drain", "--host", "nowhere"), r"No worker runs on the host nowhere\. Name one"),
        (("resume", "--host", "nowhere"), r"No worker runs on the host nowhere"),
        (("drain", "--wait", "-1"), "--wait takes the seconds"),
        (("drain", "--wait", "nan"), "--wait takes the seconds"),
        (("drain", "--host", "a", "--pool", "b"), "not allowed with"),
        (("scale_workers", "0"), r"would run nothing\. Ask for 1 or more"),
        (("scale_workers", "5"), r"room for 4 worker processes, not 5\. .*WORKER_MAX_PROCESSES"),
        (("scale_workers", "2", "--show"), "one of them"),
        (("scale_workers", "2", "--auto", "on"), "one of them"),
        (("scale_workers", "2", "--min", "1"), "go with --auto"),
        (("scale_workers", "2", "--json"), "goes with --show"),
        (("scale_workers", "--wait", "5"), "Give the number"),
        (("scale_workers", "--dry-run"), "Give the number"),
        (("scale_workers", "2", "--wait", "-5"), "takes the seconds"),
        (("scale_workers", "--auto", "on", "--dry-run"), "--auto dry-run"),
        (("scale_workers", "--auto", "on", "--min", "5", "--max", "2"), "minimum 5 must be"),
        (("scale_workers", "--auto", "perhaps"), "invalid choice"),
    ],
)
def test_an_order_that_cannot_be_is_refused_and_changes_nothing(
    cluster: Cluster, arguments: tuple[str, ...], says: str
) -> None:
    new_worker(host="a")
    with pytest.raises(CommandError, match=says):
        run(*arguments)
    row = QueueControl.objects.get()
    assert (row.draining, row.processes, row.autoscale) == (False, None, "off")
    assert not Worker.objects.filter(draining=True).exists()


def test_without_a_cluster_a_number_is_refused(db: None) -> None:
    with pytest.raises(CommandError, match=r"No host runs workers\. Start `manage.py worker`"):
        run("scale_workers", "3")
    assert "No host runs workers. Start" in run("scale_workers")[1]


def test_a_number_is_set_and_a_dry_run_only_tells(cluster: Cluster) -> None:
    dry = run("scale_workers", "4", "--dry-run")
    assert dry == (0, "Would go from 2 to 4 worker processes on 1 cluster. Nothing was changed.\n")
    assert (QueueControl.objects.get().processes, ScalingDecision.objects.count()) == (None, 0)
    assert run("scale_workers", "4", "--reason", "patch night")[1] == "From 2 to 4 worker processes on 1 cluster.\n"
    decision = ScalingDecision.objects.get()
    assert (decision.by, decision.reason) == (command_actor(), "Scaled to 4 in all. patch night")
    pool.autoscale("on", minimum=1, maximum=4, by="x")
    assert run("scale_workers", "3")[1].endswith("Autoscaling ends with it.\n")
    assert QueueControl.objects.get().autoscale == "off"


@pytest.mark.parametrize(("answer", "after"), [("n", None), ("", None), ("y", 1)])
def test_at_a_terminal_ending_processes_is_asked_for(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, answer: str, after: int | None
) -> None:
    _at_a_terminal(monkeypatch, answer)
    if after is None:
        with pytest.raises(CommandError, match=r"Nothing was changed"):
            run("scale_workers", "1")
    else:
        run("scale_workers", "1")
    assert QueueControl.objects.get().processes == after
    _at_a_terminal(monkeypatch, "")
    assert run("scale_workers", "1", "--yes")[0] == 0
    assert run("scale_workers", "4")[0] == 0, "more is not asked for"


def test_waiting_ends_when_they_are_there_and_with_4_when_not(cluster: Cluster) -> None:
    new_worker(cluster="c1")
    status, said = run("scale_workers", "2", "--wait", "0.3")
    assert status == 4
    assert "1 of 2 worker processes are there." in said
    leaving = new_worker(cluster="c1", state="stopping")
    new_worker(cluster="c1")
    new_worker(cluster="c1", isolation=True)
    status, said = run("scale_workers", "2", "--wait", "0.3")
    assert (status, "2 of 2 worker processes are there, 1 hand back and end." in said) == (4, True)
    Worker.objects.filter(pk=leaving).update(stopped_at=timezone.now(), state="stopped")
    assert run("scale_workers", "2", "--wait", "5")[1].endswith("2 worker processes are there.\n")


def test_autoscaling_is_set_and_keeps_the_limits_that_are_not_named(cluster: Cluster) -> None:
    said = run("scale_workers", "--auto", "dry-run", "--min", "2", "--max", "3", "--reason", "look first")[1]
    assert said == "Autoscaling runs dry between 2 and 3: it says what it would do, and changes nothing.\n"
    assert run("scale_workers", "--auto", "on", "--max", "4")[1].endswith("decides between 2 and 4 worker processes.\n")
    row = QueueControl.objects.get()
    assert (row.autoscale, row.min_processes, row.max_processes) == ("on", 2, 4)
    assert run("scale_workers", "--auto", "off") == (0, "Autoscaling is off.\n")
    assert ScalingDecision.objects.filter(by=command_actor()).count() == 3


def test_what_there_is_is_shown_to_people_and_to_programs(cluster: Cluster) -> None:
    drained = new_worker(cluster="c1", host="ops-1", draining=True, running=3)
    new_worker(cluster="c1", host="ops-1", isolation=True)
    Cluster.objects.create(
        name="c2", host="ops-2", pid=78, version="0", processes=1, initial_processes=1, max_processes=8,
        pools=["heavy"], last_beat_at=timezone.now() - timedelta(hours=1),
    )  # fmt: skip
    pool.scale(3, by="user:op", reason="Patch night.")
    said = run("scale_workers")[1]
    assert said == run("scale_workers", "--show")[1]
    assert "Autoscaling is off.\nSet by hand: 3 worker processes in all.\n" in said
    (ops_1,) = (line.split() for line in said.splitlines() if line.startswith("ops-1"))
    assert ops_1[:9] == ["ops-1", "77", "2", "4", "1", "1", "0", "3", "10"]
    assert "pools heavy; regions *; SILENT" in said
    assert f"worker {drained}" in said
    assert "active, draining; runs 3 of 10 on ops-1" in said
    assert "ops-1: 2 to 3, by user:op: Scaled to 3 in all. Patch night." in said
    shown = json.loads(run("scale_workers", "--show", "--json")[1])
    assert (shown["processes"], shown["autoscale"], shown["min"], shown["max"]) == (3, "off", 1, 8)
    assert [(one["host"], one["alive"], one["silent"]) for one in shown["clusters"]] == [
        ("ops-1", 1, False), ("ops-2", 0, True)
    ]  # fmt: skip
    assert [one["draining"] for one in shown["workers"]] == [True, False]
    assert [one["after"] for one in shown["decisions"]] == [3]
    assert not QueueEntry.objects.exists()
