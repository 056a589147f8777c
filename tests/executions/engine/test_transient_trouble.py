"""Hosts over SSH that are away, refuse, or vanish in the middle: what is tried again, and what never is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from executions.models import Asset, Event, Step, StepTarget
from safety.models import Tenant, User
from safety.secrets.keeping import store_secret
from tests.executions.engine.conftest import Workers, assert_nothing_left_behind, ended, shell
from tests.installations import wait_until
from tests.sshd import Sshd
from tests.sshd import sshd as sshd

pytestmark = [pytest.mark.django_db(transaction=True)]

Begin = Callable[..., int]


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Sshd]:
    """A server of the test's own, to be closed, started and broken off."""
    server = Sshd(tmp_path / "second")
    yield server
    server.close()


@pytest.fixture
def fleet(requester: User, sshd: Sshd, second: Sshd) -> list[str]:
    """One host that is well, one each that is away, refuses the key, has another host key, names no credential."""
    tenant = Tenant.objects.get(name="default")
    for path, server in (("ssh/first", sshd), ("ssh/second", second)):
        value = {"username": server.username, "private_key": server.private_key}
        store_secret(tenant, path, json.dumps(value), by=requester)
    other_key = second.host_key
    for name, server, changes in (
        ("well", sshd, {"credential": "ssh/first"}),
        ("away", second, {"credential": "ssh/second"}),
        ("stranger", sshd, {"credential": "ssh/second"}),
        ("imposter", sshd, {"credential": "ssh/first", "host_key": other_key}),
        ("nameless", sshd, {}),
    ):
        fields = {**server.asset_fields(), **changes}
        Asset.objects.create(tenant=tenant, name=name, environment="development", **fields)
    return ["well", "away", "stranger", "imposter", "nameless"]


def rows_of(execution_id: int) -> dict[str, tuple[str, str, int]]:
    rows = StepTarget.objects.filter(execution_id=execution_id).order_by("position")
    return {row.name: (row.status, row.error_code, row.attempt) for row in rows}


def test_who_is_away_is_tried_again_and_who_refuses_is_not(
    workers: Workers, begin: Begin, fleet: list[str], second: Sshd, tmp_path: Path
) -> None:
    """The step is not idempotent: what is tried again has certainly not begun, and it runs once on each host."""
    log = tmp_path / "log"
    second.close()
    retry = {"max_attempts": 5, "delay_seconds": 0.5}
    execution_id = begin(
        shell("all", f"echo x{{{{ name }}}} >> {log}", targets=fleet, retry=retry, fan_out={"max_failures": 3})
    )
    workers.start(WORKER_PROCESSES="1")
    pauses = Event.objects.filter(execution_id=execution_id, kind="target.pending")
    wait_until(pauses.exists, what="the first try of the one that is away")
    second.start()
    assert ended(execution_id).status == "partial"
    rows = rows_of(execution_id)
    assert rows["well"] == ("succeeded", "", 1)
    assert rows["away"][:2] == ("succeeded", "")
    assert rows["away"][2] >= 2
    assert rows["stranger"] == ("failed", "authentication_failed", 1), "another try may lock the account"
    assert rows["imposter"] == ("failed", "host_key_changed", 1)
    assert rows["nameless"][0] == "failed"
    assert rows["nameless"][2] == 1
    assert sorted(log.read_text().split()) == ["xaway", "xwell"]
    assert {(event.data or {})["error_code"] for event in pauses} == {"connection_refused"}
    assert {(event.data or {})["target"] for event in pauses} == {"away"}
    step = Step.objects.get(execution_id=execution_id)
    assert step.error == "3 of 5 targets were unreachable, which the plan allows."
    assert_nothing_left_behind()


def test_a_connection_lost_in_the_middle_is_unknown_and_tried_again_only_where_that_does_no_harm(
    workers: Workers, begin: Begin, fleet: list[str], second: Sshd, tmp_path: Path
) -> None:
    workers.start(WORKER_PROCESSES="1")
    for idempotent, status, tries in ((False, "needs_attention", 1), (True, "succeeded", 2)):
        log, go = tmp_path / f"log-{idempotent}", tmp_path / f"go-{idempotent}"
        # It looks before it says that it runs: what comes later is for the next try.
        command = f"test -e {go} && last=yes; echo x >> {log}; test $last || sleep 60"
        retry = {"max_attempts": 3, "delay_seconds": 0.1}
        execution_id = begin(shell("change", command, targets=["away"], retry=retry, idempotent=idempotent))
        wait_until(log.exists, what="the command's start")
        go.touch()
        second.drop_connections()
        assert ended(execution_id).status == status
        assert log.read_text() == "x\n" * tries
        code = "" if idempotent else "connection_lost"
        assert rows_of(execution_id)["away"] == ("succeeded" if idempotent else "unknown", code, tries)
    assert_nothing_left_behind()
