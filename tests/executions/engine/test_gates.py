"""A person's approval as the gate between two waves, with real workers: the machines are let go while people think."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.db.models import F
from django.utils import timezone

from executions.approval_points import Point
from executions.models import Asset, Event, Execution, PendingApproval, Step, StepTarget
from executions.services import approve, cancel, reject, resolve, withdraw_approval
from executions.services.decisions import expire_overdue
from executions.services.refusals import Refused
from queueing.control import drain, resume
from queueing.models import AssetLock, QueueEntry
from safety.models import User
from tests.executions.engine.conftest import (
    Workers,
    assert_nothing_left_behind,
    ended,
    kinds,
    make_hosts,
    shell,
    status_of,
    step_statuses,
)
from tests.executions.services.requests import make_user, together
from tests.installations import wait_until

pytestmark = [pytest.mark.django_db(transaction=True)]

Begin = Callable[..., int]


@pytest.fixture
def people(transactional_db: None) -> list[User]:
    return [make_user(f"approver{number}", "approver") for number in range(2)]


class Log:
    """What the commands did, one line each, in order."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def does(self, what: str) -> str:
        return f"echo {what} {{{{ name }}}} >> {self.path}"

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []

    def of(self, what: str) -> list[str]:
        """The machines, in the order in which that was done on them."""
        return [line.split()[1] for line in self.lines() if line.split()[0] == what]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log")


def waved(key: str, command: str, hosts: list[str], *waves: int | str, pause: float = 0, **fields: Any) -> Any:
    fan_out = {"waves": [*waves, "rest"], "gate": {"approval": True, "pause_seconds": pause}}
    return shell(key, command, targets=hosts, fan_out=fan_out, **fields)


def undone_by(log: Log, what: str) -> dict[str, Any]:
    return {"tool": "shell", "inputs": {"command": log.does(what)}}


def waits(execution_id: int, *points: Point) -> None:
    def asked() -> list[Point]:
        row = PendingApproval.objects.filter(pk=execution_id).first()
        return row.points if row else []

    wait_until(lambda: asked() == [*points], what=f"the wait for the approval of {points}")
    assert status_of(execution_id) == "pending_approval"


def counted(execution_id: int, key: str) -> Counter[str]:
    rows = StepTarget.objects.filter(execution_id=execution_id, step__key=key, step__kind="step")
    return Counter(rows.values_list("status", flat=True))


def refused(code: str, verb: Callable[..., str], execution_id: int, **given: Any) -> None:
    with pytest.raises(Refused) as caught:
        verb(execution_id, **given)
    assert caught.value.code == code


def test_a_wave_waits_for_a_person_and_holds_nothing_meanwhile(
    workers: Workers, begin: Begin, people: list[User], requester: User, log: Log
) -> None:
    """Nothing is kept for it, and nobody is asked, or made to pause, twice for the same wave."""
    hosts = make_hosts("h", 6)
    one = begin(waved("change", log.does("change"), hosts, 1, 2, pause=0.2), shell("after", log.does("after")))
    assert Execution.objects.get(pk=one).approval_level == 2, "who asks for a person is never below 2"
    assert approve(one, by=people[0]) == "queued"
    workers.start(WORKER_PROCESSES="1")
    waits(one, Point("change", 2))

    execution = Execution.objects.get(pk=one)
    assert execution.status_reason == (
        "Wave 2 of 3 of step 'change' (shell) waits for approval: 2 targets (h1, h2). Until now 1 of 1 succeeded."
    )
    assert not QueueEntry.objects.filter(pk=one).exists()
    assert not AssetLock.objects.filter(execution_id=one).exists(), "no machine is held while people think"
    assert step_statuses(one) == {"change": "pending", "after": "pending"}
    waiting = Event.objects.get(execution_id=one, kind="execution.waiting_for_approval")
    assert waiting.data == {"from": "running", "to": "pending_approval", "steps": ["change"], "waves": [2]}
    beside = begin(shell("beside", log.does("beside"), targets=hosts[:1]))
    assert ended(beside).status == "succeeded", "somebody else has the machine and the worker"

    refused("self_approval", approve, one, by=requester)
    refused("not_waiting_for_approval", approve, one, by=people[0], step="change", wave=3)
    refused("not_waiting_for_approval", approve, one, by=people[0], step="change", wave=0)
    refused("not_waiting_for_approval", approve, one, by=people[0], step="", wave=0)
    # An hour later, far beyond its time limit, and while the queue drains: it goes on when that is over.
    hour = timedelta(hours=1)
    Execution.objects.filter(pk=one).update(started_at=F("started_at") - hour, deadline_at=F("deadline_at") - hour)
    PendingApproval.objects.filter(pk=one).update(asked_at=F("asked_at") - hour)
    drain(by=people[0].actor)
    assert approve(one, by=people[0], step="change", wave=2, comment="h0 is fine") == "queued"
    assert QueueEntry.objects.get(pk=one).state == "ready"
    resume(by=people[0].actor)
    waits(one, Point("change", 3))
    # Whoever looks at the page of wave 2 still does not approve wave 3 by it.
    refused("not_waiting_for_approval", approve, one, by=people[1], step="change", wave=2)
    # And of a wave that is over there is nothing to take back.
    refused("nothing_to_withdraw", withdraw_approval, one, by=people[0], reason="late", step="change")
    assert log.of("change")[0] == "h0"
    assert sorted(log.of("change")) == hosts[:3]
    assert approve(one, by=people[1], step="change") == "queued"

    assert ended(one).status == "succeeded"
    assert sorted(log.of("change")) == hosts, "what had finished did not run again"
    told = list(Event.objects.filter(execution_id=one, kind="step.wave_finished").order_by("seq"))
    said = [(event.data or {}) for event in told]
    assert [(data["wave"], data.get("asks_for_approval"), data.get("next_in_seconds")) for data in said] == [
        (1, True, 0.2), (2, True, 0.2), (3, None, None),
    ]  # fmt: skip
    given = Event.objects.filter(execution_id=one, kind="approval.given").order_by("seq")
    assert [(event.data or {}).get("wave") for event in given] == [None, 2, 3]
    assert_nothing_left_behind()
    assert not PendingApproval.objects.exists()


def test_killed_workers_neither_lose_what_waits_nor_run_or_undo_anything_twice(
    workers: Workers, begin: Begin, people: list[User], log: Log, tmp_path: Path
) -> None:
    """All are killed while one waits before a wave and one before a step; again in the middle of that wave, and in that
    of undoing what was done before that step. Of a wave that an operator has run once more a person is asked anew."""
    hosts = make_hosts("h", 4)
    Asset.objects.filter(name="localhost").update(environment="staging")
    go = tmp_path / "go"

    def first_time(name: str) -> str:
        return f"if ! test -e {go}; then touch {tmp_path / name}; sleep 60; fi"

    hold = f"if test {{{{ name }}}} = h2; then {first_time('in-wave')}; fi"
    wave = begin(waved("change", f"{log.does('change')}; {hold}", hosts, 1, 2, idempotent=False))
    slow = {
        "tool": "shell",
        "inputs": {"command": f"{log.does('unsecond')}; {first_time('undoing')}"},
        "idempotent": True,
    }
    wipe = {"action": "delete", "path": str(tmp_path / "data")}
    step = begin(
        shell("first", log.does("first"), rollback=undone_by(log, "unfirst")),
        shell("second", log.does("second"), rollback=slow),
        {"id": "wipe", "tool": "file_manager", "inputs": wipe, "targets": ["localhost"], "on_failure": "rollback"},
    )
    approve(wave, by=people[0])
    for person in people:
        approve(step, by=person)
    workers.start()
    waits(wave, Point("change", 2))
    waits(step, Point("wipe"))
    kill(workers)
    assert (status_of(wave), status_of(step)) == ("pending_approval", "pending_approval")
    assert approve(wave, by=people[0]) == "queued"
    assert reject(step, by=people[0], comment="not today") == "cancelling"
    wait_until(
        lambda: (
            all((tmp_path / name).exists() for name in ("in-wave", "undoing"))
            and counted(wave, "change")["succeeded"] == 2
        ),
        what="the middle of wave 2, and of the rollback",
    )
    go.touch()
    kill(workers)

    assert ended(wave).status == "needs_attention"
    assert counted(wave, "change") == {"succeeded": 2, "unknown": 1, "pending": 1}
    execution = ended(step)
    assert execution.status == "rejected"
    assert execution.status_reason == "step 'wipe' was rejected: not today. Rolled back on localhost: second, first."
    mine = [line.split()[0] for line in log.lines() if line.endswith("localhost")]
    assert mine == ["first", "second", "unsecond", "unsecond", "unfirst"]
    wiped = Step.objects.get(execution_id=step, key="wipe")
    assert (wiped.status, wiped.error) == ("skipped", "it was rejected: not today.")
    begun = Event.objects.get(execution_id=step, kind="rollback.started").data or {}
    assert begun["seconds"] is None, "it has the time that it needs, as after a failure"

    assert resolve(wave, by=an_operator(), step="change", outcome="run_again", reason="it did nothing") == "queued"
    waits(wave, Point("change", 2))
    assert Counter(log.of("change")) == {"h0": 1, "h1": 1, "h2": 1}, "not again before a person has agreed to it"
    approve(wave, by=people[1])
    waits(wave, Point("change", 3))
    approve(wave, by=people[1])
    assert ended(wave).status == "succeeded"
    assert Counter(log.of("change")) == {"h0": 1, "h1": 1, "h2": 2, "h3": 1}
    assert_nothing_left_behind()


def kill(workers: Workers) -> None:
    """End all worker processes at once, as a power cut does."""
    for pid in workers.pids():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_wave_that_is_not_approved_ends_its_step_and_is_undone_where_the_step_asks_for_it(
    workers: Workers, begin: Begin, people: list[User], log: Log
) -> None:
    """Rejected or forgotten: what is left is left alone, and says so. With `on_failure: rollback` all that was done
    where the step was to run is undone first, newest first: also its waves that succeeded."""
    ids: dict[str, int] = {}
    fails = {"tool": "shell", "inputs": {"command": "exit 9"}}
    for name in ("stops", "undoes", "forgotten", "moved", "stuck"):
        hosts = make_hosts(f"{name}-", 3)
        ids[name] = begin(
            shell("backup", log.does("backup"), targets=hosts, rollback=undone_by(log, "unbackup")),
            waved(
                "change", log.does("change"), hosts, 1,
                on_failure="stop" if name == "stops" else "rollback",
                rollback=fails if name == "stuck" else undone_by(log, "unchange"),
            ),
            shell("after", log.does("after")),
        )  # fmt: skip
        approve(ids[name], by=people[0])
    workers.start(WORKER_PROCESSES="1")
    for one in ids.values():
        waits(one, Point("change", 2))

    assert reject(ids["stops"], by=people[1], comment="too slow") == "rejected"
    assert reject(ids["undoes"], by=people[1], step="change", wave=2, comment="too slow") == "cancelling"
    Execution.objects.filter(pk=ids["forgotten"]).update(approval_expires_at=timezone.now() - timedelta(seconds=1))
    expire_overdue()
    Asset.objects.filter(name="moved-0").update(hostname="elsewhere.example")
    assert reject(ids["moved"], by=people[1], comment="not any more") == "cancelling"
    assert reject(ids["stuck"], by=people[1], comment="no") == "cancelling"
    # A rollback that fails is for a person, and then it ends as it was to end.
    assert ended(ids["stuck"]).status == "needs_attention"
    assert resolve(ids["stuck"], by=an_operator(), step="change", outcome="failed", reason="let it be") == "queued"

    told = {name: ended(one) for name, one in ids.items()}
    assert {name: (row.status, row.error_code) for name, row in told.items()} == {
        "stops": ("rejected", "approval_rejected"),
        "undoes": ("rejected", "approval_rejected"),
        "forgotten": ("expired", "not_approved_in_time"),
        "moved": ("rejected", "approval_rejected"),
        "stuck": ("rejected", "approval_rejected"),
    }
    for name, one in ids.items():
        assert {key: counted(one, key) for key in ("backup", "change", "after")} == {
            "backup": {"succeeded": 3}, "change": {"succeeded": 1, "skipped": 2}, "after": {"skipped": 1}
        }, name  # fmt: skip
        step = Step.objects.get(execution_id=one, key="change", kind="step")
        verdict = "Nobody approved wave 2 in time." if name == "forgotten" else "wave 2 was rejected:"
        assert step.status == "failed"
        assert step.error.startswith(verdict), step.error
        assert step.error.endswith(f" 2 targets were left alone: {name}-1, {name}-2."), step.error
    left = "2 targets were left alone: {0}-1, {0}-2."
    assert told["stops"].status_reason == (
        f"wave 2 of step 'change' was rejected: too slow. {left.format('stops')}"
        " Done before, and not undone: 'backup' succeeded, 'change' on 1 of 3 targets."
    )
    assert told["undoes"].status_reason == (
        f"wave 2 of step 'change' was rejected: too slow. {left.format('undoes')}"
        " Rolled back on undoes-0: change, backup; on undoes-1, undoes-2: backup."
    )
    assert told["forgotten"].status_reason == (
        f"Nobody approved wave 2 of step 'change' in time. {left.format('forgotten')}"
        " Rolled back on forgotten-0: change, backup; on forgotten-1, forgotten-2: backup."
    )
    assert "What was done was not undone: Its approval is void" in told["moved"].status_reason
    assert sorted(log.of("unchange")) == ["forgotten-0", "undoes-0"]
    for host in ("undoes-0", "forgotten-0"):
        assert [line.split()[0] for line in log.lines() if line.endswith(host)] == [
            "backup", "change", "unchange", "unbackup"
        ]  # fmt: skip
    undone = [f"{name}-{n}" for name in ("forgotten", "undoes") for n in range(3)]
    # Where what lies on top was left to stand, what lies under it stays.
    assert sorted(log.of("unbackup")) == sorted([*undone, "stuck-1", "stuck-2"])
    assert not log.of("after")
    assert kinds(ids["undoes"])[-1] == "execution.rejected"
    assert kinds(ids["forgotten"])[-1] == "execution.expired"
    assert_nothing_left_behind()
    assert not PendingApproval.objects.exists()


def an_operator() -> User:
    return make_user("operator", "operator")


def test_of_two_approvers_at_once_and_of_approval_against_cancel_one_wins(
    workers: Workers, begin: Begin, people: list[User], requester: User, log: Log
) -> None:
    ids = []
    for number in range(4):
        hosts = make_hosts(f"m{number}-", 2)
        ids.append(begin(waved("change", log.does("change"), hosts, 1, rollback=undone_by(log, "unchange"))))
        approve(ids[-1], by=people[0])
    withdrawn = begin(waved("change", log.does("change"), make_hosts("w", 2), 1, rollback=undone_by(log, "unchange")))
    approve(withdrawn, by=people[0])
    workers.start(WORKER_PROCESSES="1")
    for one in (*ids, withdrawn):
        waits(one, Point("change", 2))

    def answer(verb: Callable[..., str], one: int, **given: Any) -> str:
        try:
            return verb(one, **given)
        except Refused as no:
            return no.code

    for one in ids[:2]:
        calls = [partial(answer, approve, one, by=who, step="change", wave=2) for who in people]
        assert sorted(together(*calls)) == ["not_waiting_for_approval", "queued"]
    for one in ids[2:]:
        approved, cancelled = together(
            partial(answer, approve, one, by=people[1]), partial(answer, cancel, one, by=requester, reason="stop")
        )
        assert (approved, cancelled) in {
            ("not_waiting_for_approval", "cancelling"), ("queued", "cancelling"), ("queued", "already_final"),
        }  # fmt: skip
        name = f"m{ids.index(one)}-"
        final = ended(one).status
        if approved != "queued":
            assert final == "cancelled"
            assert [host for host in log.of("change") if host.startswith(name)] == [f"{name}0"]
        elif cancelled == "already_final":
            assert final == "succeeded"
        assert final in ("succeeded", "cancelled"), "a cancel may come as the last command ends"
        undone = [host for host in log.of("unchange") if host.startswith(name)]
        done = [host for host in log.of("change") if host.startswith(name)]
        assert sorted(undone) == ([] if final == "succeeded" else sorted(done)), "what was done was undone, once"
    for number, one in enumerate(ids[:2]):
        assert ended(one).status == "succeeded"
        done = [host for host in log.of("change") if host.startswith(f"m{number}-")]
        assert done == [f"m{number}-0", f"m{number}-1"], "the wave ran once"
    # The plan's approval taken back while a wave waits is a cancel like any other: what was done is undone.
    assert withdraw_approval(withdrawn, by=people[0], reason="wrong window") == "cancelling"
    execution = ended(withdrawn)
    assert (execution.status, execution.error_code) == ("cancelled", "approval_withdrawn")
    assert "w0" in log.of("unchange")
    assert_nothing_left_behind()
