"""What becomes of a plan, through real workers and real commands."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from guardian.shortcuts import assign_perm

from executions.models import Asset, Step
from executions.services import Refused, cancel
from safety.models import User
from tests.executions.engine.conftest import (
    Workers,
    assert_nothing_left_behind,
    ended,
    kinds,
    make_hosts,
    printed,
    shell,
    status_of,
    step_statuses,
    target_of,
)
from tests.installations import wait_until

pytestmark = [pytest.mark.django_db(transaction=True)]

Begin = Callable[..., int]


def noop(key: str, **fields: object) -> dict[str, object]:
    return {"id": key, "tool": "noop", **fields}


def wait(key: str, seconds: float, **fields: object) -> dict[str, object]:
    return {"id": key, "tool": "wait", "inputs": {"seconds": seconds}, **fields}


def test_a_failed_step_stops_the_plan_and_is_reported_as_it_was(workers: Workers, begin: Begin) -> None:
    workers.start()
    execution = ended(
        begin(shell("one", "echo first"), shell("two", "echo why >&2; exit 3"), shell("three", "echo never"))
    )
    assert execution.status == "failed"
    assert "'two'" in execution.status_reason
    assert step_statuses(execution.pk) == {"one": "succeeded", "two": "failed", "three": "skipped"}
    assert target_of(execution.pk, "two").exit_code == 3
    assert printed(execution.pk, "one") == "first\n"
    assert printed(execution.pk, "two", "stderr") == "why\n"
    assert printed(execution.pk, "three") == ""
    assert kinds(execution.pk)[0] == "execution.submitted"
    assert kinds(execution.pk)[-1] == "execution.failed"
    assert_nothing_left_behind()


def test_plans_of_every_shape_end_as_they_should(workers: Workers, begin: Begin, tmp_path: Path) -> None:
    """Several plans on one set of workers: starting workers is what costs."""
    workers.start()
    counter = tmp_path / "tries"
    graph = begin(wait("a", 1.5), wait("b", 1.5), noop("c", depends_on=["a", "b"]), plan=None)
    continued = begin(shell("bad", "exit 1", on_failure="continue"), shell("good", "echo on"))
    retried = begin(
        shell(
            "flaky",
            f"echo x >> {counter}; test $(wc -l < {counter}) -ge 3",
            retry={"max_attempts": 3, "delay_seconds": 0.1},
        )
    )
    criteria = begin(shell("says", "echo status: green", success={"stdout_matches": "green$"}))
    unmet = begin(shell("says", "echo status: red", success={"stdout_matches": "green$"}))
    accepted = begin(shell("three", "exit 3", success={"exit_codes": [0, 3]}))
    piped = begin(
        shell("first", "echo from-first"),
        {
            "id": "second",
            "tool": "command",
            "inputs": {"argv": ["echo", "got {{ steps.first.stdout }}"]},
            "targets": ["localhost"],
        },
    )
    missing = begin(
        {"id": "a", "tool": "command", "inputs": {"argv": ["no-such-command-anywhere"]}, "targets": ["localhost"]}
    )

    assert ended(continued).status == "succeeded"
    assert step_statuses(continued) == {"bad": "failed", "good": "succeeded"}
    assert ended(retried).status == "succeeded"
    assert target_of(retried, "flaky").attempt == 3
    assert kinds(retried).count("target.pending") == 2
    assert ended(criteria).status == "succeeded"
    assert ended(unmet).status == "failed"
    assert target_of(unmet, "says").error_code == "criteria_not_met"
    assert ended(accepted).status == "succeeded"
    assert ended(piped).status == "succeeded"
    assert printed(piped, "second") == "got from-first\n"
    assert ended(missing).status == "failed"
    assert target_of(missing, "a").error_code == "command_not_found"
    run = ended(graph)
    assert run.status == "succeeded"
    assert run.finished_at is not None
    assert run.started_at is not None
    assert 1.4 < (run.finished_at - run.started_at).total_seconds() < 2.9, "a and b run at the same time"
    assert_nothing_left_behind()


def test_time_limits_of_step_and_execution_are_kept(workers: Workers, begin: Begin) -> None:
    workers.start()
    step = begin(shell("slow", "trap '' TERM; sleep 60", timeout_seconds=1))
    whole = begin({**wait("long", 60), "timeout_seconds": 60})
    Step.objects.filter(execution_id=whole)
    assert ended(step).status == "timed_out"
    assert target_of(step, "slow").status == "timed_out"
    assert target_of(step, "slow").stop_confirmed is True
    cancel(whole, by=User.objects.get(username="requester"), reason="enough")
    assert ended(whole).status == "cancelled"


def test_a_cancel_reaches_a_running_step_within_a_second(workers: Workers, begin: Begin, tmp_path: Path) -> None:
    workers.start()
    started, survived = tmp_path / "started", tmp_path / "survived"
    running = begin(shell("long", f"touch {started}; sleep 30; touch {survived}"), shell("next", f"touch {survived}"))
    waiting = begin(shell("behind", "echo behind"))
    wait_until(started.exists, what="the command's start")
    by = User.objects.get(username="requester")
    asked = time.monotonic()
    assert cancel(running, by=by, reason="changed my mind") == "cancelling"
    execution = ended(running, seconds=3)
    assert time.monotonic() - asked < 1.5
    assert execution.status == "cancelled"
    assert step_statuses(running) == {"long": "cancelled", "next": "skipped"}
    assert target_of(running, "long").stop_confirmed is True
    assert ended(waiting).status == "succeeded", "the lock was handed on"
    assert not survived.exists()
    with pytest.raises(Refused, match="already ended"):
        cancel(running, by=by, reason="again")
    assert_nothing_left_behind()


def test_what_waits_is_cancelled_without_a_worker(begin: Begin, requester: User) -> None:
    execution_id = begin(shell("one", "echo never"))
    assert cancel(execution_id, by=requester, reason="not needed") == "cancelled"
    assert step_statuses(execution_id) == {"one": "skipped"}
    assert_nothing_left_behind()


def test_a_right_withdrawn_after_submit_stops_the_execution(workers: Workers, begin: Begin, requester: User) -> None:
    execution_id = begin(shell("one", "echo never"))
    User.objects.filter(pk=requester.pk).update(is_superuser=False)
    workers.start()
    execution = ended(execution_id)
    assert (execution.status, execution.error_code) == ("failed", "forbidden")
    assert step_statuses(execution_id) == {"one": "skipped"}


def test_a_query_prints_what_its_requester_may_see(workers: Workers, begin: Begin, requester: User) -> None:
    seen, _ = make_hosts("host-", 2)
    User.objects.filter(pk=requester.pk).update(is_superuser=False)
    requester.refresh_from_db()
    assign_perm("execute_read", requester, Asset.objects.get(name=seen))
    workers.start()
    query = {"id": "find", "tool": "asset-query", "inputs": {"fields": ["name"]}}
    execution = ended(begin(query))
    assert (execution.status, json.loads(printed(execution.pk, "find"))) == ("succeeded", [{"name": seen}])


def test_output_of_a_megabyte_arrives_whole_and_in_order(workers: Workers, begin: Begin) -> None:
    workers.start()
    execution = ended(begin(shell("many", "seq 1 150000")))
    assert execution.status == "succeeded"
    assert printed(execution.pk, "many") == "".join(f"{n}\n" for n in range(1, 150001))
    assert status_of(execution.pk) == "succeeded"
    assert_nothing_left_behind()


def test_output_of_a_machine_never_becomes_a_command(workers: Workers, begin: Begin, tmp_path: Path) -> None:
    workers.start()
    harm = tmp_path / "harm"
    execution = ended(
        begin(
            shell("says", f"printf '%s' '$(touch {harm}); touch {harm}'"),
            shell("repeats", "echo {{ steps.says.stdout }}"),
        )
    )
    assert execution.status == "succeeded"
    assert printed(execution.pk, "repeats") == f"$(touch {harm}); touch {harm}\n"
    assert not harm.exists()
