"""/metrics: what Prometheus reads is what the database says."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from executions.states import ExecutionStatus
from monitoring import figures
from queueing import control
from queueing.models import Attempt, AttemptEnd, Cluster, DeadLetter, QueueEntry, Worker
from tests.executions.live.rows import make_execution, make_user

pytestmark = pytest.mark.django_db


def scrape() -> dict[tuple[str, str], float]:
    """Return {(name, value of its only label or nothing): number} of our own metrics."""
    response = Client().get("/metrics")
    assert response.status_code == 200
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(response.content.decode())
        for sample in family.samples
        if sample.name.startswith("opsconductor_")
    }


def test_executions_are_counted_by_status() -> None:
    user = make_user()
    for status in ("running", "failed", "failed", "succeeded"):
        make_execution(user, steps=["one"], status=status)

    told = scrape()

    counts = {status: told["opsconductor_executions", status] for status in ExecutionStatus.values}
    assert counts == {status: {"running": 1, "failed": 2, "succeeded": 1}.get(status, 0) for status in counts}


def test_the_queue_the_dlq_and_the_workers_are_told() -> None:
    now = timezone.now()
    for number, state in enumerate(("ready", "ready", "blocked", "delayed"), 1):
        QueueEntry.objects.create(
            execution_id=number, tenant_id=1, state=state, priority=5, attempts_left=3, place=now,
            available_at=now - timedelta(seconds=60 if state == "ready" else 0),
        )  # fmt: skip
    DeadLetter.objects.create(execution_id=9, tenant_id=1, reason="engine_error", attempts=1)
    DeadLetter.objects.create(
        execution_id=9, tenant_id=1, reason="engine_error", attempts=1, state="discarded", closed_at=now
    )
    Worker.objects.create(cluster="c", host="a", pid=1, version="1", slots=10, running=4, last_beat_at=now)
    Worker.objects.create(cluster="c", host="b", pid=1, version="1", slots=10, last_beat_at="2026-01-01T00:00:00Z")
    control.drain(by="user:root")

    told = scrape()

    assert told["opsconductor_queue_depth", ""] == 4
    assert told["opsconductor_queue_entries", "ready"] == 2
    assert told["opsconductor_queue_entries", "leased"] == 0
    assert 60 <= told["opsconductor_queue_waiting_seconds", ""] < 120
    assert told["opsconductor_queue_draining", ""] == 1
    assert told["opsconductor_dead_letters", "engine_error"] == 1
    assert told["opsconductor_dead_letters", "outcome_unknown"] == 0
    assert told["opsconductor_workers", "active"] == 2
    assert (told["opsconductor_workers_beating", ""], told["opsconductor_workers_silent", ""]) == (1, 1)
    assert (told["opsconductor_worker_slots", ""], told["opsconductor_worker_running", ""]) == (20, 4)


def test_clusters_lines_and_lost_attempts_are_told() -> None:
    now = timezone.now()
    Cluster.objects.create(
        name="c1", host="ops-1", pid=7, version="1", processes=3, initial_processes=2, max_processes=8
    )
    Cluster.objects.create(
        name="c2", host="ops-2", pid=7, version="1", processes=1, initial_processes=1, max_processes=2, stopped_at=now
    )
    for fields in ({}, {"draining": True}, {"state": "stopping"}, {"isolation": True}, {"stopped_at": now}):
        Worker.objects.create(cluster="c1", host="ops-1", pid=1, version="1", slots=10, regions=["eu-1"], **fields)
    for number in range(6):
        QueueEntry.objects.create(
            execution_id=number, tenant_id=1, state="ready", priority=5, attempts_left=3, place=now,
            available_at=now - timedelta(seconds=60), region="eu-2" if number % 2 else "", losses=number == 5,
        )  # fmt: skip
    for number, (end, ago) in enumerate(
        [("lease_expired", 5), ("lease_expired", 50), ("worker_died", 5), ("dead", 90)]
    ):
        Attempt.objects.create(
            execution_id=number, tenant_id=1, number=1, token=number, worker_id=1, worker="h/1", leased_at=now, end=end,
            ended_at=now - timedelta(minutes=ago),
        )  # fmt: skip

    told = scrape()

    assert told["opsconductor_clusters", ""] == 1
    assert told["opsconductor_cluster_processes_wanted", "ops-1/7"] == 3
    assert told["opsconductor_cluster_processes_alive", "ops-1/7"] == 2
    assert told["opsconductor_cluster_processes_room", "ops-1/7"] == 8
    assert ("opsconductor_cluster_processes_wanted", "ops-2/7") not in told
    ended = {end: told["opsconductor_attempts_ended_last_hour", end] for end in AttemptEnd.values}
    assert ended == {"handed_back": 0, "lease_expired": 2, "worker_died": 1, "dead": 0}
    assert told["opsconductor_queue_suspects", ""] == 1
    lines = samples("opsconductor_queue_line_waiting")
    assert lines == {("default", ""): 3, ("default", "eu-2"): 2}
    assert samples("opsconductor_queue_line_served") == {("default", ""): 1, ("default", "eu-2"): 0}
    assert all(60 <= seconds < 120 for seconds in samples("opsconductor_queue_line_seconds").values())


def samples(name: str) -> dict[tuple[str, ...], float]:
    """Return {values of the labels: number} of one metric."""
    return {
        tuple(sample.labels[label] for label in sorted(sample.labels)): sample.value
        for family in text_string_to_metric_families(Client().get("/metrics").content.decode())
        for sample in family.samples
        if sample.name == name
    }


def test_a_figure_that_cannot_be_read_is_absent_and_not_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "EXECUTIONS", "SELECT pg_sleep(30), 1")
    monkeypatch.setattr(figures, "MOST_MILLISECONDS", 50)

    told = scrape()

    assert ("opsconductor_executions", "running") not in told
    assert told["opsconductor_scrape_failed", "executions"] == 1
    assert told["opsconductor_scrape_failed", "queue"] == 0
    assert told["opsconductor_queue_depth", ""] == 0


def test_figures_of_a_database_that_does_not_answer_are_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "database_answers", lambda: False)

    told = scrape()

    assert {name for name, _ in told} == {"opsconductor_scrape_failed", "opsconductor_scrape_seconds"}


def test_requests_of_this_process_are_counted_too() -> None:
    Client().get("/healthz")

    assert b"django_http_requests_total_by_method_total" in Client().get("/metrics").content
