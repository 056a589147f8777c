"""Health: what is well, what is not, and why."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from queueing import control
from queueing.models import QueueControl, QueueEntry, Worker
from safety.audit import record

pytestmark = pytest.mark.django_db


def ask(path: str = "/readyz") -> tuple[int, dict[str, Any]]:
    response = Client().get(path)
    assert response.headers["Content-Type"] == "application/json"
    return response.status_code, response.json()


def checks(told: dict[str, Any]) -> dict[str, str]:
    for check in told["checks"]:
        assert set(check) == {"name", "status", "reason", "checked_at", "duration_ms"}
        assert check["reason"]
    return {check["name"]: check["status"] for check in told["checks"]}


def add_worker(host: str, *, silent_for: timedelta = timedelta(0), **fields: Any) -> Worker:
    beat = timezone.now() - silent_for
    return Worker.objects.create(
        cluster="c", host=host, pid=1, version="0.1.0", slots=10, **{"last_beat_at": beat, **fields}
    )


def test_a_process_that_answers_is_alive_whatever_else_is_wrong(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    with django_assert_num_queries(0):
        status, told = ask("/healthz")

    assert status == 200
    assert checks(told) == {"process": "pass"}


def test_an_installation_with_beating_workers_is_ready() -> None:
    add_worker("host-1")
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL ROLE opsconductor_app")  # as the web process has it

    status, told = ask()

    assert status == 200
    assert checks(told) == dict.fromkeys(("database", "migrations", "queue", "workers", "audit", "services"), "pass")
    assert told["reasons"] == []


def test_a_role_that_could_change_the_audit_is_warned_of() -> None:
    add_worker("host-1")
    status, told = ask()
    assert (status, checks(told)["audit"]) == (200, "warn")
    assert "grant_app_role" in told["reasons"][0]


def test_records_that_nobody_seals_are_warned_of() -> None:
    add_worker("host-1")
    record("queue.drain", actor="system")
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("UPDATE safety_auditrecord SET at = at - interval '2 minutes'")
        cursor.execute("SET LOCAL ROLE opsconductor_app")
    told = ask()[1]
    assert checks(told)["audit"] == "warn"
    assert "waited 12" in told["reasons"][0]


def test_without_a_worker_it_is_not_ready_and_says_why() -> None:
    add_worker("gone", state="stopped", stopped_at=timezone.now())

    status, told = ask()

    assert status == 503
    assert checks(told)["workers"] == "fail"
    assert any("No worker is running" in reason for reason in told["reasons"])


def test_a_hung_worker_is_not_healthy() -> None:
    """Its process may well exist: what counts is its sign of life."""
    add_worker("hung", silent_for=timedelta(minutes=2))

    status, told = ask()

    assert status == 503
    assert any("hung/1" in reason for reason in told["reasons"])


def test_one_hung_worker_of_several_is_told_without_closing_the_door() -> None:
    add_worker("hung", silent_for=timedelta(minutes=2))
    add_worker("well")

    status, told = ask()

    assert (status, told["status"]) == (200, "warn")
    assert checks(told)["workers"] == "warn"
    assert any("hung/1" in reason and "1 of 2" in reason for reason in told["reasons"])


def test_a_silent_worker_is_told_before_its_leases_run_out() -> None:
    add_worker("well")
    add_worker("silent", silent_for=settings.SILENT_AFTER + timedelta(seconds=1))
    assert settings.SILENT_AFTER + timedelta(seconds=1) < settings.LEASE

    status, told = ask()

    assert (status, checks(told)["workers"]) == (200, "warn")
    assert any("silent/1" in reason for reason in told["reasons"])


def test_workers_that_all_drain_are_told() -> None:
    add_worker("one", draining=True)
    add_worker("two", draining=True)
    assert checks(ask()[1])["workers"] == "warn"
    add_worker("three")
    assert checks(ask()[1])["workers"] == "pass"


def test_what_nobody_serves_is_told() -> None:
    add_worker("well", regions=["eu-1"])
    now = timezone.now()
    for number in range(14):
        QueueEntry.objects.create(
            execution_id=number, tenant_id=1, state="ready", priority=5, attempts_left=3, place=now, available_at=now,
            region="eu-2" if number else "eu-1",
        )  # fmt: skip

    status, told = ask()

    assert (status, checks(told)["queue"]) == (200, "warn")
    assert "queue: No worker serves region eu-2: 13 executions wait." in told["reasons"]


def test_a_draining_queue_is_told_without_closing_the_door() -> None:
    add_worker("well")
    control.drain(by="user:root")

    status, told = ask()

    assert (status, checks(told)["queue"]) == (200, "warn")


def test_a_migration_that_is_not_applied_is_named() -> None:
    add_worker("well")
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'queueing'")

    status, told = ask()

    assert (status, checks(told)["migrations"]) == (503, "fail")
    assert any("queueing." in reason and "manage.py migrate" in reason for reason in told["reasons"])


def test_a_queue_without_its_control_row_is_not_ready() -> None:
    add_worker("well")
    QueueControl.objects.all().delete()

    status, told = ask()

    assert (status, checks(told)["queue"]) == (503, "fail")


def test_a_probe_takes_few_statements(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    add_worker("well")
    ask()

    # migrations: is the table there, its rows; queue: its row, draining, entries; workers; audit: the role's rights.
    # The database's own check has a connection of its own.
    with django_assert_num_queries(7):
        ask()


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_probes_only_read(path: str) -> None:
    assert Client().post(path).status_code == 405
    assert Client().head(path).status_code in (200, 503)
    assert "no-cache" in Client().get(path).headers["Cache-Control"] or path != "/metrics"
