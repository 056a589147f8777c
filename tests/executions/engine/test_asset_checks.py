"""Checks of assets by real workers: what they find is the health of the asset."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from executions.engine.sightings import Sightings, write_checks, write_seen
from executions.models import Asset, Execution, StepTarget
from executions.services import Accepted, check_assets
from executions.services.checks import BATCH_ASSETS
from safety.models import User
from safety.secrets.keeping import store_secret
from tests.executions.engine.conftest import Workers, ended, shell
from tests.executions.live.rows import make_execution, make_user
from tests.installations import wait_until
from tests.sshd import Sshd
from tests.sshd import sshd as sshd


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.2", 0)) as server:
        yield server.getsockname()[1]


def endpoint(user: User, name: str, **fields: Any) -> Asset:
    return Asset.objects.create(tenant=user.tenant, name=name, environment="development", **fields)


@pytest.mark.django_db(transaction=True)
def test_a_check_says_of_each_asset_whether_it_answers_and_how_fast(
    workers: Workers, requester: User, listening: int, begin: Callable[..., int]
) -> None:
    closed = socket.create_server(("127.0.0.2", 0))
    nobody_there = closed.getsockname()[1]
    closed.close()
    good = endpoint(requester, "api-good", ip_address="127.0.0.2", connection="api", port=listening)
    bad = endpoint(requester, "api-bad", ip_address="127.0.0.2", connection="api", port=nobody_there)
    odd = endpoint(requester, "odd", hostname="odd.example.org", connection="carrier-pigeon")
    outside = endpoint(requester, "private", hostname="169.254.169.254", connection="api", port=80)
    local = Asset.objects.get(name="localhost", tenant=requester.tenant)
    workers.start(WORKER_PROCESSES="1", HTTP_ALLOWED_NETWORKS="127.0.0.0/8,::1/128")
    (accepted,) = check_assets([good, bad, odd, outside, local], by=requester)
    assert isinstance(accepted, Accepted)
    assert ended(accepted.execution_id).status == "partial"
    wait_until(lambda: Asset.objects.exclude(health="").count() >= 4, what="the health of the assets")
    health = {asset.name: asset for asset in Asset.objects.filter(tenant=requester.tenant)}
    assert {name: (asset.health, asset.health_code) for name, asset in health.items()} == {
        "api-good": ("healthy", ""),
        "api-bad": ("unreachable", "connection_refused"),
        "odd": ("failed", "no_connector"),
        "private": ("failed", "address_not_allowed"),
        "localhost": ("healthy", ""),
    }
    assert health["api-good"].response_ms is not None
    assert health["api-good"].response_ms < 5000
    assert health["api-bad"].response_ms is None
    assert "refuses connections" in health["api-bad"].health_message
    targets = {row.name: row for row in StepTarget.objects.filter(execution_id=accepted.execution_id)}
    assert health["api-good"].checked_at == targets["api-good"].finished_at == health["api-good"].last_seen_at
    assert health["api-bad"].last_seen_at is None

    # And what an ordinary step reaches has been seen.
    Asset.objects.filter(pk=local.pk).update(last_seen_at=None)
    ended(begin(shell("one", "true")))
    wait_until(lambda: Asset.objects.get(pk=local.pk).last_seen_at is not None, what="that it was seen")


@pytest.mark.django_db(transaction=True)
def test_a_check_over_ssh_signs_in_with_the_assets_credential(
    workers: Workers, requester: User, sshd: Sshd, tmp_path: Path
) -> None:
    another = subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    assert another.returncode == 0
    strange_host_key = " ".join((tmp_path / "key.pub").read_text().split()[:2])
    store_secret(requester.tenant, "ssh/right", sshd.private_key, by=None)
    store_secret(requester.tenant, "ssh/wrong", (tmp_path / "key").read_text(), by=None)
    where = sshd.asset_fields()
    made = [
        endpoint(requester, "good", **where, credential="ssh/right"),
        endpoint(requester, "not-let-in", **where, credential="ssh/wrong"),
        endpoint(requester, "another-machine", **{**where, "host_key": strange_host_key}, credential="ssh/right"),
        endpoint(requester, "nobody-there", **{**where, "port": 1}, credential="ssh/right"),
        endpoint(requester, "no-secret", **where, credential="ssh/never-stored"),
    ]
    workers.start(WORKER_PROCESSES="1")
    (accepted,) = check_assets(made, by=requester)
    assert isinstance(accepted, Accepted)
    ended(accepted.execution_id)
    wait_until(lambda: Asset.objects.exclude(health="").count() == 5, what="the health of the assets")
    assert {asset.name: (asset.health, asset.health_code) for asset in Asset.objects.exclude(health="")} == {
        "good": ("healthy", ""),
        "not-let-in": ("refused", "authentication_failed"),
        "another-machine": ("refused", "host_key_changed"),
        "nobody-there": ("unreachable", "connection_refused"),
        "no-secret": ("failed", "secret_unavailable"),
    }


@pytest.mark.django_db
def test_a_thousand_assets_are_checked_in_parts_that_hold_few_of_them(make_root: User) -> None:
    Asset.objects.bulk_create(
        Asset(tenant=make_root.tenant, name=f"m-{n:04}", connection="ssh", environment="production")
        for n in range(1000)
    )
    assets = list(Asset.objects.filter(tenant=make_root.tenant, connection="ssh").order_by("name"))
    answers = check_assets(assets, by=make_root)
    executions = Execution.objects.filter(pk__in=[one.execution_id for one in answers if isinstance(one, Accepted)])
    assert len(answers) == executions.count() == 1000 // BATCH_ASSETS
    assert {(one.action_class, one.approval_level, one.priority) for one in executions} == {("read", 0, 10)}
    assert StepTarget.objects.filter(execution__in=executions).values("asset").distinct().count() == 1000


@pytest.fixture
def make_root(db: None) -> User:
    return make_user("root", is_superuser=True)


@pytest.mark.django_db
def test_the_newest_check_wins_in_whatever_order_they_are_written(make_root: User) -> None:
    asset = endpoint(make_root, "db-1", connection="ssh")
    older = checked(make_root, asset, minutes_ago=9, code="unreachable")
    newer = checked(make_root, asset, minutes_ago=1)
    write_checks([newer])
    write_checks([older])
    asset.refresh_from_db()
    assert asset.health == "healthy"
    write_checks([newer, older])
    asset.refresh_from_db()
    assert (asset.health, asset.health_code, asset.response_ms) == ("healthy", "", 12)
    last = checked(make_root, asset, minutes_ago=0, code="host_key_changed")
    write_checks([older, last])
    asset.refresh_from_db()
    assert (asset.health, asset.health_code, asset.response_ms) == ("refused", "host_key_changed", None)
    assert asset.health_message == "It is another machine."
    assert asset.last_seen_at == StepTarget.objects.get(execution_id=newer).finished_at


def checked(user: User, asset: Asset, *, minutes_ago: int, code: str = "") -> int:
    """The rows that a check leaves behind."""
    execution = make_execution(user, steps=["check"], hosts=[asset.name], status="succeeded", step_status="succeeded")
    execution.steps.update(tool="asset-check")
    StepTarget.objects.filter(execution=execution).update(
        asset=asset, status="failed" if code else "succeeded", error_code=code, data={"response_ms": 12},
        error="It is another machine." if code else "", finished_at=timezone.now() - timedelta(minutes=minutes_ago),
    )  # fmt: skip
    return execution.pk


@pytest.mark.django_db
def test_an_asset_that_is_in_use_all_the_time_is_marked_now_and_then(make_root: User) -> None:
    asset = endpoint(make_root, "db-1", connection="ssh")
    write_seen([asset.pk])
    first = Asset.objects.get(pk=asset.pk).last_seen_at
    assert first is not None
    write_seen([asset.pk])
    assert Asset.objects.get(pk=asset.pk).last_seen_at == first
    Asset.objects.filter(pk=asset.pk).update(last_seen_at=first - timedelta(minutes=11))
    write_seen([asset.pk])
    assert Asset.objects.filter(pk=asset.pk, last_seen_at__gte=first).exists()
    with CaptureQueriesContext(connection) as queries:
        Sightings().write()
    assert len(queries) == 0
