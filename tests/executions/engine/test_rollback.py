"""Rolling back, through real workers and real commands: what is undone, where, in which order, what is said of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.db.models import F
from django.db.models.functions import Now

from executions.models import Asset, Event, Execution, OutputChunk, Step, StepTarget
from executions.services import cancel, resolve, retry
from queueing.models import DeadLetter, QueueEntry, Worker
from safety.masking import PLACEHOLDER
from safety.models import AuditRecord, Tenant, User
from safety.secrets.keeping import store_secret
from tests.executions.engine.conftest import (
    Workers,
    assert_nothing_left_behind,
    ended,
    kinds,
    shell,
    status_of,
)
from tests.installations import wait_until

pytestmark = [pytest.mark.django_db(transaction=True)]

Begin = Callable[..., int]


def make_hosts(*names: str) -> list[str]:
    tenant = Tenant.objects.get(name="default")
    for name in names:
        Asset.objects.create(tenant=tenant, name=name, hostname=name, connection="local", environment="development")
    return list(names)


class Log:
    """What the commands did, one line each, in order."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def does(self, what: str) -> str:
        """Return the command that writes it down, with the host."""
        return f"echo {what} {{{{ hostname }}}} >> {self.path}"

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []

    def undone(self) -> list[str]:
        return [line for line in self.lines() if line.startswith("un")]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log")


def undoable(key: str, log: Log, hosts: list[str], undo: str = "", **fields: Any) -> dict[str, Any]:
    """A step that is undone by a command which writes it down."""
    rollback = {"tool": "shell", "inputs": {"command": undo or log.does(f"un{key}")}}
    return shell(key, log.does(key), targets=hosts, rollback=rollback, **fields)


def rows(execution_id: int, kind: str = "rollback") -> dict[str, dict[str, str]]:
    """Return {step: {target: status}} in order."""
    found: dict[str, dict[str, str]] = {}
    for step in Step.objects.filter(execution_id=execution_id, kind=kind).order_by("position"):
        found[step.key] = dict(step.targets.order_by("position").values_list("name", "status"))
    return found


def began(execution_id: int) -> dict[str, Any]:
    """What was said as the rollback began."""
    data = Event.objects.get(execution_id=execution_id, kind="rollback.started").data
    assert isinstance(data, dict)
    return data


def test_what_was_done_where_a_step_failed_is_undone_and_nothing_else(workers: Workers, begin: Begin, log: Log) -> None:
    """Newest first, on each host by itself; of what was done elsewhere only what the failed step has no part in."""
    web = make_hosts("web-1", "web-2", "web-3", "web-4")
    [balancer] = make_hosts("lb")
    execution_id = begin(
        {"id": "look", "tool": "shell", "inputs": {"command": "true"}, "targets": web},
        undoable("drain", log, [balancer]),
        undoable("backup", log, web),
        undoable("change", log, web),
        shell("reload", log.does("reload"), targets=web),
        shell("check", "test {{ hostname }} != web-3", targets=web, on_failure="rollback",
              fan_out={"max_concurrent": 4}),
        shell("after", "true", targets=web),
    )  # fmt: skip
    workers.start()
    execution = ended(execution_id)
    assert execution.status == "failed"
    assert log.undone() == ["unchange web-3", "unbackup web-3", "undrain lb"]
    assert rows(execution_id) == {
        "change": {"web-3": "succeeded"}, "backup": {"web-3": "succeeded"}, "drain": {"lb": "succeeded"}
    }  # fmt: skip
    assert rows(execution_id, "step")["after"] == dict.fromkeys(web, "skipped")
    assert execution.status_reason == (
        "Step 'check' failed: 1 of 4 targets failed; web-3: It ended with exit code 1; 0 is expected."
        " Rolled back on web-3: change, backup; on lb: drain."
    )
    said = kinds(execution_id)
    assert said.count("rollback.started") == said.count("rollback.finished") == 1
    assert said[-2:] == ["rollback.finished", "execution.failed"]
    assert [one["step"] for one in began(execution_id)["steps"]] == ["change", "backup", "drain"]
    moves = Event.objects.filter(execution_id=execution_id, kind__startswith="step.", data__kind="rollback")
    assert list(moves.order_by("seq").values_list("kind", "data__step")) == [
        (kind, key) for key in ("change", "backup", "drain") for kind in ("step.running", "step.succeeded")
    ]
    assert_nothing_left_behind()


def test_a_cancel_undoes_all_that_was_carried_out_and_nothing_else(
    workers: Workers, begin: Begin, requester: User, log: Log, tmp_path: Path
) -> None:
    """What was stopped in the middle may have done half of it, so it is undone, too; what never began is not."""
    started = tmp_path / "started"
    web = make_hosts("web-1", "web-2")
    slow = f"{log.does('slow')}; touch {started}-{{{{ hostname }}}}; sleep 60"
    execution_id = begin(
        undoable("change", log, web),
        {**undoable("slow", log, web, idempotent=True), "inputs": {"command": slow}},
        undoable("after", log, web),
    )
    workers.start()
    wait_until(lambda: all(Path(f"{started}-{name}").exists() for name in web), what="the step's start on both")
    cancel(execution_id, by=requester, reason="wrong window")
    execution = ended(execution_id)
    assert execution.status == "cancelled"
    assert _in_order_on_each(log, web)
    assert rows(execution_id) == {"slow": dict.fromkeys(web, "succeeded"), "change": dict.fromkeys(web, "succeeded")}
    assert rows(execution_id, "step")["after"] == dict.fromkeys(web, "skipped")
    assert execution.status_reason == "Cancelled. Rolled back on web-1, web-2: slow, change."
    assert began(execution_id)["seconds"] == 30
    assert_nothing_left_behind()


def _in_order_on_each(log: Log, hosts: list[str]) -> bool:
    done = {host: [line.split()[0] for line in log.undone() if line.endswith(host)] for host in hosts}
    return all(done[host] == ["unslow", "unchange"] for host in hosts)


def test_a_cancel_before_anything_ran_undoes_nothing(workers: Workers, begin: Begin, requester: User, log: Log) -> None:
    """Also what could not begin: nothing happened there, so nothing is undone there."""
    [host] = make_hosts("web-1")
    failed = begin(undoable("change", log, [host]), {
        "id": "check", "tool": "command", "inputs": {"argv": ["/no/such/program"]}, "targets": [host],
        "on_failure": "rollback", "rollback": {"tool": "shell", "inputs": {"command": log.does("uncheck")}},
    })  # fmt: skip
    untouched = begin({
        "id": "check", "tool": "command", "inputs": {"argv": ["/no/such/program"]}, "targets": [host],
        "on_failure": "rollback", "rollback": {"tool": "shell", "inputs": {"command": log.does("uncheck")}},
    })  # fmt: skip
    waits = begin(undoable("change", log, [host]))
    cancel(waits, by=requester, reason="never mind")
    workers.start()
    assert ended(failed).status_reason.endswith("Rolled back on web-1: change.")
    assert "Nothing was rolled back: no step that acted there says how" in ended(untouched).status_reason
    assert ended(waits).status == "cancelled"
    assert log.undone() == ["unchange web-1"]
    assert (rows(untouched), rows(waits)) == ({}, {})
    assert_nothing_left_behind()


def test_a_rollback_that_fails_on_one_host_stops_there_and_a_person_decides(
    workers: Workers, begin: Begin, requester: User, log: Log, tmp_path: Path
) -> None:
    """The others go on. What was done before it on that host stays until a person has said how that goes on."""
    mended = tmp_path / "mended"
    web = make_hosts("web-1", "web-2")
    undo = f"test {{{{ hostname }}}} = web-1 || test -e {mended} || exit 7; {log.does('unchange')}"

    def plan(which: str) -> int:
        return begin(
            undoable("backup", log, web),
            undoable("change", log, web, undo=undo),
            shell("check", f": {which}; false", targets=web, on_failure="rollback", fan_out={"max_concurrent": 2}),
        )

    workers.start()
    by_hand, again, let_stand = plan("by hand"), plan("again"), plan("let stand")
    for execution_id in (by_hand, again, let_stand):
        execution = ended(execution_id)
        assert execution.status == "needs_attention"
        assert rows(execution_id) == {
            "change": {"web-1": "succeeded", "web-2": "failed"},
            "backup": {"web-1": "succeeded", "web-2": "pending"},
        }
        dead = DeadLetter.objects.get(execution_id=execution_id)
        assert dead.reason == "rollback_failed"
        assert "Undoing 'change' on web-2 failed: It ended with exit code 7" in dead.error
        assert "Rolled back on web-1: change, backup." in dead.error
        assert kinds(execution_id)[-2:] == ["rollback.finished", "execution.needs_attention"]
    mended.touch()
    resolve(by_hand, by=requester, step="change", outcome="succeeded", reason="undone by hand")
    resolve(again, by=requester, step="change", outcome="run_again", reason="the disk is back")
    resolve(let_stand, by=requester, step="change", outcome="failed", reason="it may stay")
    ends = {execution_id: final(execution_id) for execution_id in (by_hand, again, let_stand)}
    assert {execution.status for execution in ends.values()} == {"failed"}
    assert ends[by_hand].status_reason.endswith("Rolled back on web-1, web-2: change, backup.")
    assert ends[again].status_reason.endswith("Rolled back on web-1, web-2: change, backup.")
    assert ends[let_stand].status_reason.endswith(
        "Rolled back on web-1: change, backup. Not undone, as a person decided: backup, change."
    )
    assert rows(let_stand)["backup"] == {"web-1": "succeeded", "web-2": "skipped"}
    assert log.undone().count("unbackup web-2") == 2  # by_hand, again
    assert log.undone().count("unchange web-2") == 1
    assert DeadLetter.objects.filter(state="open").count() == 0
    assert "rollback.let_stand" in kinds(let_stand)
    assert_nothing_left_behind()


def final(execution_id: int) -> Execution:
    wait_until(lambda: status_of(execution_id) in ("failed", "cancelled", "timed_out"), what="the end")
    return Execution.objects.get(pk=execution_id)


def test_a_worker_killed_in_the_middle_of_a_rollback_undoes_nothing_twice(
    workers: Workers, begin: Begin, requester: User, log: Log, tmp_path: Path
) -> None:
    """The next one goes on from the rows: what was in flight is run again if it is idempotent, else nobody knows."""
    started, released = tmp_path / "started", tmp_path / "released"
    hosts = make_hosts("web-1", "web-2")
    slow = f"{log.does('unchange')}; touch {started}-{{{{ hostname }}}}; until test -e {released}; do sleep 0.05; done"

    def plan(host: str, *, idempotent: bool) -> int:
        change = undoable("change", log, [host])
        change["rollback"] = {"tool": "shell", "inputs": {"command": slow}, "idempotent": idempotent}
        return begin(
            undoable("backup", log, [host]),
            change,
            undoable("reload", log, [host]),
            shell("check", "false", targets=[host], on_failure="rollback"),
        )

    workers.start(WORKER_PROCESSES="1")
    once, repeated = plan("web-1", idempotent=False), plan("web-2", idempotent=True)
    wait_until(lambda: all(Path(f"{started}-{host}").exists() for host in hosts), what="both rollbacks")
    assert workers.kill_one() is not None
    released.touch()
    assert ended(repeated).status == "failed"
    assert rows(repeated) == {key: {"web-2": "succeeded"} for key in ("reload", "change", "backup")}
    assert ended(once).status == "needs_attention"
    assert rows(once) == {
        "reload": {"web-1": "succeeded"}, "change": {"web-1": "unknown"}, "backup": {"web-1": "pending"}
    }  # fmt: skip
    assert DeadLetter.objects.get(execution_id=once).reason == "rollback_failed"
    undone = log.undone()
    assert undone.count("unreload web-1") == undone.count("unreload web-2") == 1
    assert (undone.count("unchange web-1"), undone.count("unchange web-2")) == (1, 2)
    assert "unbackup web-1" not in undone
    resolve(once, by=requester, step="change", outcome="succeeded", reason="looked: it is undone")
    assert final(once).status_reason.endswith("Rolled back on web-1: reload, change, backup.")
    assert log.undone().count("unchange web-1") == 1
    assert_nothing_left_behind()


def test_cleanup_has_its_time_and_no_more(
    workers: Workers, begin: Begin, requester: User, log: Log, tmp_path: Path
) -> None:
    """After a cancel, after the end of the execution's time, and of a rollback that is cancelled itself."""
    started = tmp_path / "started"
    one, two, three = make_hosts("web-1", "web-2", "web-3")
    never_ends = f"touch {started}-{{{{ hostname }}}}; sleep 120"
    wait_for_cancel = f"touch {started}-{{{{ hostname }}}}-step; sleep 120"
    cancelled = begin(
        undoable("backup", log, [one]),
        undoable("change", log, [one], undo=never_ends),
        shell("slow", wait_for_cancel, targets=[one], idempotent=True),
    )
    out_of_time = begin(
        undoable("backup", log, [two]),
        undoable("change", log, [two], undo=never_ends),
        shell("slow", "sleep 120", targets=[two], idempotent=True, on_failure="rollback"),
    )
    Execution.objects.filter(pk=out_of_time).update(execution_seconds=1)
    rolling_back = begin(
        undoable("change", log, [three], undo=never_ends),
        shell("check", "false", targets=[three], on_failure="rollback"),
    )
    workers.start(CLEANUP_SECONDS="1")
    wait_until(Path(f"{started}-web-1-step").exists, what="the step that is cancelled")
    wait_until(Path(f"{started}-web-3").exists, what="the rollback that is cancelled")
    cancel(cancelled, by=requester, reason="wrong window")
    cancel(rolling_back, by=requester, reason="it hangs")
    for execution_id in (cancelled, out_of_time, rolling_back):
        assert ended(execution_id).status == "needs_attention"
        dead = DeadLetter.objects.get(execution_id=execution_id)
        assert dead.reason == "rollback_failed"
        assert "The 1 s that cleanup has were over." in dead.error
    assert rows(cancelled) == {"change": {"web-1": "timed_out"}, "backup": {"web-1": "pending"}}
    assert rows(out_of_time) == {"change": {"web-2": "timed_out"}, "backup": {"web-2": "pending"}}
    assert log.undone() == []
    assert_nothing_left_behind()


def test_the_time_of_a_cleanup_is_that_of_all_its_workers_together(
    workers: Workers, begin: Begin, requester: User, log: Log, tmp_path: Path
) -> None:
    """A worker that is killed in the middle of a cleanup leaves the next one what was left of its seconds."""
    started, released = tmp_path / "started", tmp_path / "released"
    hosts = make_hosts("web-1", "web-2", "web-3")
    undo = f"{log.does('unchange')}; touch {started}-{{{{ hostname }}}}; until test -e {released}; do sleep 0.05; done"

    def plan(host: str, step: dict[str, Any]) -> int:
        change = undoable("change", log, [host])
        change["rollback"] = {"tool": "shell", "inputs": {"command": undo}, "idempotent": True}
        return begin(undoable("backup", log, [host]), change, {**step, "targets": [host]})

    slow = shell("slow", f"touch {started}-slow-{{{{ hostname }}}}; sleep 120", idempotent=True)
    cancelled, quick = plan("web-1", slow), plan("web-2", slow)
    cancelled_later = plan("web-3", shell("check", "false", on_failure="rollback"))
    workers.start(WORKER_PROCESSES="1", CLEANUP_SECONDS="300")
    wait_until(lambda: all(Path(f"{started}-slow-{host}").exists() for host in hosts[:2]), what="the slow steps")
    wait_until(Path(f"{started}-web-3").exists, what="the rollback that is cancelled")
    for execution_id in (cancelled, quick, cancelled_later):
        cancel(execution_id, by=requester, reason="wrong window")
    wait_until(lambda: all(Path(f"{started}-{host}").exists() for host in hosts), what="the rollbacks")
    spent = timedelta(seconds=400)
    for execution_id in (cancelled, cancelled_later):
        told = Event.objects.filter(execution_id=execution_id, kind__in=("rollback.started", "execution.cancelling"))
        assert told.update(at=F("at") - spent) == 2
        assert QueueEntry.objects.filter(pk=execution_id).update(leased_at=F("leased_at") - spent) == 1
    assert workers.kill_one() is not None
    released.touch()

    assert ended(quick).status_reason == "Cancelled. Rolled back on web-2: change, backup."
    for execution_id in (cancelled, cancelled_later):
        assert ended(execution_id).status == "needs_attention"
        error = DeadLetter.objects.get(execution_id=execution_id).error
        assert "What undoes backup, change was not begun. The 300 s that cleanup has were over." in error
    assert sorted(log.undone()) == sorted([*(f"unchange {host}" for host in hosts), "unchange web-2", "unbackup web-2"])
    assert_nothing_left_behind()


def test_a_rollback_uses_outputs_rows_and_secrets_and_tells_none(workers: Workers, begin: Begin, log: Log) -> None:
    """Its secret is released as its own, to it alone, and is masked in what it prints."""
    [host] = make_hosts("web-1")
    store_secret(Tenant.objects.get(name="default"), "db/undo", "tr0ub4dor-and-3", by=None)
    undo = f'read s; echo "$s"; echo un{{{{ steps.change.stdout }}}}-{{{{ hostname }}}}-$s >> {log.path}'
    execution_id = begin({
        "id": "change", "tool": "shell", "inputs": {"command": "printf token-7"}, "targets": [host],
        "rollback": {"tool": "shell", "inputs": {"command": undo, "stdin": {"type": "secret", "path": "db/undo"}}},
    }, shell("check", "false", targets=[host], on_failure="rollback"))  # fmt: skip
    workers.start()
    assert ended(execution_id).status_reason.endswith("Rolled back on web-1: change.")
    assert log.undone() == ["untoken-7-web-1-tr0ub4dor-and-3"]
    undone = StepTarget.objects.get(execution_id=execution_id, step__kind="rollback")
    printed = "".join(OutputChunk.objects.filter(step_target=undone).values_list("text", flat=True))
    assert "tr0ub4dor" not in printed
    assert PLACEHOLDER in printed
    [use] = AuditRecord.objects.filter(action="secret.use", data__execution=execution_id)
    assert (use.object_id, use.data["step"], use.data["purpose"]) == ("db/undo", "change", "rollback")


def test_a_frozen_worker_that_lost_its_lease_undoes_and_writes_nothing_more(
    workers: Workers, begin: Begin, log: Log, tmp_path: Path
) -> None:
    """Its warden ends the command before the lease ends; what it thinks it knows when it wakes is refused."""
    started, survived = tmp_path / "started", tmp_path / "survived"
    [host] = make_hosts("web-1")
    workers.start(WORKER_PROCESSES="1")
    execution_id = begin(
        undoable("backup", log, [host]),
        undoable("change", log, [host], undo=f"echo $$ > {started}; sleep 20; touch {survived}"),
        shell("check", "false", targets=[host], on_failure="rollback"),
    )
    wait_until(lambda: started.exists() and started.read_text().strip(), what="the rollback's start")
    [frozen] = workers.pids()
    os.kill(frozen, signal.SIGSTOP)
    wait_until(lambda: not psutil.pid_exists(int(started.read_text())), what="the end of the frozen worker's command")
    wait_until(lambda: lease_is_over(execution_id), what="the end of the lease")
    before = Event.objects.filter(execution_id=execution_id).count()
    os.kill(frozen, signal.SIGCONT)
    assert ended(execution_id).status == "needs_attention"
    written = Event.objects.filter(execution_id=execution_id).order_by("seq")[before:]
    assert not [event for event in written if event.actor.endswith(f"/{frozen}")]
    assert rows(execution_id) == {"change": {"web-1": "unknown"}, "backup": {"web-1": "pending"}}
    assert log.undone() == []
    assert not survived.exists()
    assert_nothing_left_behind()


def lease_is_over(execution_id: int) -> bool:
    return not QueueEntry.objects.filter(pk=execution_id, lease_expires_at__gt=Now()).exists()


def test_a_worker_that_shuts_down_hands_a_rollback_on(
    workers: Workers, begin: Begin, requester: User, log: Log, tmp_path: Path
) -> None:
    """Between two of its steps, also that of a cancel; and what waits for a worker then is undone when cancelled."""
    started, released = tmp_path / "started", tmp_path / "released"
    one, two, three = make_hosts("web-1", "web-2", "web-3")
    undo = f"{log.does('unchange')}; touch {started}-{{{{ hostname }}}}; until test -e {released}; do sleep 0.05; done"
    holding = f"touch {started}-{{{{ hostname }}}}; until test -e {released}; do sleep 0.05; done"
    workers.start(WORKER_PROCESSES="1", SHUTDOWN_GRACE_SECONDS="30")
    failed = begin(
        undoable("backup", log, [one]),
        undoable("change", log, [one], undo=undo),
        shell("check", "false", targets=[one], on_failure="rollback"),
    )
    cancelled = begin(
        undoable("backup", log, [two]),
        undoable("change", log, [two], undo=undo),
        shell("slow", f"touch {started}-slow; sleep 60", targets=[two], idempotent=True),
    )
    going_on = begin(undoable("change", log, [three]), shell("hold", holding, targets=[three]), shell("after", "true"))
    wait_until(Path(f"{started}-slow").exists, what="the step that is cancelled")
    cancel(cancelled, by=requester, reason="wrong window")
    for host in (one, two, three):
        wait_until(Path(f"{started}-{host}").exists, what=f"what holds the worker on {host}")
    assert workers.process is not None
    workers.process.send_signal(signal.SIGTERM)
    wait_until(lambda: Worker.objects.filter(state="stopping").exists() or not workers.pids(), what="the shutdown")
    released.touch()
    workers.process.wait(timeout=60)
    assert [status_of(pk) for pk in (failed, cancelled, going_on)] == ["queued", "cancelling", "queued"]
    assert rows(failed) == {"change": {"web-1": "succeeded"}, "backup": {"web-1": "pending"}}
    assert cancel(going_on, by=requester, reason="not any more") == "cancelling"
    workers.start(WORKER_PROCESSES="1")
    assert ended(failed).status_reason.endswith("Rolled back on web-1: change, backup.")
    assert ended(cancelled).status_reason == "Cancelled. Rolled back on web-2: change, backup."
    assert ended(going_on).status_reason == "Cancelled. Rolled back on web-3: change."
    assert sorted(log.undone()) == sorted(
        ["unchange web-1", "unbackup web-1", "unchange web-2", "unbackup web-2", "unchange web-3"]
    )
    assert_nothing_left_behind()


def test_only_a_persons_answer_lifts_the_limit_of_a_cleanup(
    workers: Workers, begin: Begin, requester: User, log: Log, tmp_path: Path
) -> None:
    """The worker that takes what another one handed back has the time of a cleanup, too."""
    started, released = tmp_path / "started", tmp_path / "released"
    [host] = make_hosts("web-1")
    first = f"{log.does('unchange')}; touch {started}; until test -e {released}; do sleep 0.05; done"
    second = f"{log.does('unbackup')}; sleep $(test -e {released} && echo 120 || echo 3)"
    execution_id = begin(
        undoable("backup", log, [host], undo=second),
        undoable("change", log, [host], undo=first),
        shell("slow", "sleep 120", targets=[host], idempotent=True, on_failure="rollback"),
    )
    Execution.objects.filter(pk=execution_id).update(execution_seconds=1)
    workers.start(WORKER_PROCESSES="1", SHUTDOWN_GRACE_SECONDS="30")
    wait_until(started.exists, what="the rollback")
    assert workers.process is not None
    workers.process.send_signal(signal.SIGTERM)
    wait_until(lambda: Worker.objects.filter(state="stopping").exists() or not workers.pids(), what="the shutdown")
    released.touch()
    workers.process.wait(timeout=60)
    assert status_of(execution_id) == "queued"
    workers.start(WORKER_PROCESSES="1", CLEANUP_SECONDS="1")
    assert ended(execution_id).status == "needs_attention"
    assert "The 1 s that cleanup has were over." in DeadLetter.objects.get(execution_id=execution_id).error
    released.unlink()
    resolve(execution_id, by=requester, step="backup", outcome="run_again", reason="it takes three seconds")
    assert final(execution_id).status_reason.endswith("Rolled back on web-1: change, backup.")
    assert log.undone() == ["unchange web-1", "unbackup web-1", "unbackup web-1"]
    assert_nothing_left_behind()


def test_a_retry_takes_up_what_was_undone(workers: Workers, begin: Begin, requester: User, log: Log) -> None:
    """On the machines where it was undone, and there alone."""
    web = make_hosts("web-1", "web-2")
    [balancer] = make_hosts("lb")
    execution_id = begin(
        undoable("drain", log, [balancer]),
        undoable("backup", log, web),
        shell("note", log.does("note"), targets=web),
        undoable("change", log, web),
        shell("check", "test {{ hostname }} = web-1", targets=web, on_failure="rollback",
              fan_out={"max_concurrent": 2}),
    )  # fmt: skip
    workers.start()
    ended(execution_id)
    before = len(log.lines())
    again = retry(execution_id, by=requester, reason="the disk is back").execution_id
    ended(again)
    done = [line for line in log.lines()[before:] if not line.startswith("un")]
    assert done == ["drain lb", "backup web-2", "change web-2"]
    assert_nothing_left_behind()
