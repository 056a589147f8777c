"""Tools that take all targets of a step as one run: a row, an outcome and retries for each, one process for all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from executions.connectors import registry
from executions.models import Asset, Event, OutputChunk, Step, StepTarget
from executions.services import cancel
from safety.models import Tenant, User
from safety.secrets.keeping import store_secret
from tests.executions.engine.conftest import (
    Workers,
    assert_nothing_left_behind,
    ended,
    make_hosts,
    shell,
    step_statuses,
)
from tests.installations import wait_until

pytestmark = [pytest.mark.django_db(transaction=True)]

Begin = Callable[..., int]
PASSWORD = "squad-Passw0rd-nobody-sees"


@pytest.fixture
def squad(transactional_db: None, requester: User) -> list[str]:
    return make_hosts("q", 8, connection="squad")


@pytest.fixture
def together(workers: Workers, squad: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    """Workers that have the connector of squad_connector.py, as another package would bring it; so has this process."""
    package = tmp_path / "packages" / "squad-1.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: squad\nVersion: 1\n")
    points = "[opsconductor.connectors]\nsquad = tests.executions.engine.squad_connector\n"
    (package / "entry_points.txt").write_text(points)
    workers.environment["PYTHONPATH"] = str(package.parent)
    monkeypatch.syspath_prepend(str(package.parent))
    registry.added.cache_clear()
    yield workers
    registry.added.cache_clear()


def counted(execution_id: int, key: str = "all") -> Counter[str]:
    rows = StepTarget.objects.filter(execution_id=execution_id, step__key=key)
    return Counter(rows.values_list("status", flat=True))


def by_name(execution_id: int, **fields: Any) -> dict[str, StepTarget]:
    return {row.name: row for row in StepTarget.objects.filter(execution_id=execution_id, **fields)}


def runs(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def test_a_run_of_many_gives_each_its_own_outcome_output_and_retries(
    together: Workers, begin: Begin, squad: list[str], requester: User, tmp_path: Path
) -> None:
    """q1 fails twice and q2 is away once, and only they are run again; q3 refuses the password, and is left alone."""
    tenant = Tenant.objects.get(name="default")
    store_secret(tenant, "squad/login", f'{{"username": "root", "password": "{PASSWORD}"}}', by=requester)
    Asset.objects.filter(name="q4").update(credential="squad/login")
    Asset.objects.filter(name="q5").update(credential="squad/gone")
    log = tmp_path / "log"
    command = f"""
        echo "$TARGETS" >> {log}
        for t in $TARGETS; do
            echo "$t says hello from $t $PASSWORDS"
            n=$(grep -cw $t {log})
            case $t$n in
                q11|q12) echo "$t exits 4";;
                q21) echo "$t is unreachable";;
                q31) echo "$t is authentication_failed";;
                *) echo "$t exits 0";;
            esac
        done"""
    fan_out = {"max_concurrent": 3, "max_failures": 2}
    retry = {"max_attempts": 3, "delay_seconds": 0.1}
    execution_id = begin(
        shell("all", command, targets=squad, fan_out=fan_out, retry=retry),
        shell("one", "echo $TARGETS says alone; echo $TARGETS exits 0", targets=squad[:1]),
    )
    together.start(WORKER_PROCESSES="1")
    assert ended(execution_id).status == "partial"
    assert runs(log) == ["q0 q1 q2 q3 q4 q6 q7", "q1 q2", "q1"], "one process for all, then for those that failed"
    rows = by_name(execution_id, step__key="all")
    assert [(row.status, row.attempt) for row in rows.values()] == [
        ("succeeded", 1), ("succeeded", 3), ("succeeded", 2), ("failed", 1),
        ("succeeded", 1), ("failed", 1), ("succeeded", 1), ("succeeded", 1),
    ]  # fmt: skip
    assert (rows["q3"].error_code, rows["q5"].error_code) == ("authentication_failed", "secret_unavailable")
    step = Step.objects.get(execution_id=execution_id, key="all")
    assert step.error == "1 of 8 targets failed and 1 was unreachable, which the plan allows."
    printed = {
        (chunk.step_target.name, chunk.text)
        for chunk in OutputChunk.objects.filter(step_target__step__key="all").select_related("step_target")
    }
    assert ("q0", "hello from q0 [masked]\n") in printed, "what opens one machine is hidden in what all of them print"
    assert not any(PASSWORD in text for _, text in printed)
    pauses = Event.objects.filter(execution_id=execution_id, kind="target.pending").order_by("seq")
    assert [(event.data or {})["target"] for event in pauses] == ["q1", "q2", "q1"]
    assert step_statuses(execution_id)["one"] == "succeeded", "a group connector serves a single target, too"
    assert_nothing_left_behind()


def test_targets_of_which_a_run_says_nothing_are_unknown(
    together: Workers, begin: Begin, squad: list[str], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    half = f"echo $TARGETS >> {log}; for t in $TARGETS; do case $t in q[0-3]) echo $t exits 0;; esac; done"
    careful = begin(shell("all", half, targets=squad))
    told = f"test -e {tmp_path}/2 && for t in $TARGETS; do echo $t exits 0; done; touch {tmp_path}/2"
    retry = {"max_attempts": 2, "delay_seconds": 0.1}
    repeatable = begin(shell("all", told, targets=squad, idempotent=True, retry=retry))
    together.start(WORKER_PROCESSES="1")
    assert ended(careful).status == "needs_attention"
    assert counted(careful) == {"succeeded": 4, "unknown": 4}
    assert {row.error_code for row in by_name(careful, status="unknown").values()} == {"no_answer"}
    assert runs(log) == [" ".join(squad)]
    assert ended(repeatable).status == "succeeded"
    assert_nothing_left_behind()


def test_a_stop_ends_the_run_and_what_had_ended_before_is_kept(
    together: Workers, begin: Begin, squad: list[str], requester: User, tmp_path: Path
) -> None:
    """By a cancel, by the time limit of the run, and by the death of the worker."""
    hang = "for t in $TARGETS; do case $t in q[0-3]) echo $t exits 0;; esac; done; sleep 60"
    together.start(WORKER_PROCESSES="1")
    late = begin(shell("all", hang, targets=squad, idempotent=True, timeout_seconds=1))
    assert ended(late).status == "timed_out"
    assert counted(late) == {"succeeded": 4, "timed_out": 4}
    cancelled = begin(shell("all", hang, targets=squad, idempotent=True), shell("after", "true"))
    wait_until(lambda: counted(cancelled) == {"succeeded": 4, "running": 4}, what="half of the run")
    cancel(cancelled, by=requester, reason="enough")
    assert ended(cancelled, seconds=5).status == "cancelled"
    assert counted(cancelled) == {"succeeded": 4, "cancelled": 4}
    log = tmp_path / "log"
    half = "for t in $TARGETS; do case $t in q[0-3]) echo $t exits 0;; esac; done"
    first = f"test -e {tmp_path}/go && last=yes; {half}; test $last || sleep 60"
    again = f"echo $TARGETS >> {log}; {first}; for t in $TARGETS; do echo $t exits 0; done"
    killed = begin(shell("all", again, targets=squad, idempotent=True, fan_out={"waves": [6, "rest"]}))
    wait_until(lambda: counted(killed) == {"succeeded": 4, "running": 2, "pending": 2}, what="most of the first wave")
    (tmp_path / "go").touch()
    together.kill_one()
    assert ended(killed).status == "succeeded"
    assert runs(log) == ["q0 q1 q2 q3 q4 q5", "q4 q5", "q6 q7"], "what had ended is not run again"
    assert_nothing_left_behind()
