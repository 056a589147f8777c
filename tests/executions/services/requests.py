"""People, machines and plans for the tests of the verbs, and a worker that is nobody's process."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import orjson
from django.conf import settings
from django.db import connection

from executions.models import Approval, Asset, Event, Execution, PendingApproval, Step, StepTarget
from executions.services import Accepted, Submission, submit
from queueing import queue
from queueing.connections import connect
from queueing.models import AssetLock, QueueEntry
from queueing.queue import Connection, Lease
from safety.accounts import set_roles
from safety.models import Tenant, User
from tests.queueing.lines import LEASE, at_once, new_worker

_numbers = itertools.count(1)


def make_user(name: str, *roles: str, tenant: str = "default", **fields: Any) -> User:
    user = User.objects.create_user(name, tenant=Tenant.objects.get_or_create(name=tenant)[0], **fields)
    set_roles(user, roles)
    return user


def make_asset(name: str, environment: str = "production", **fields: Any) -> Asset:
    return Asset.objects.create(
        tenant=Tenant.objects.get(name="default"), name=name, connection="local", environment=environment, **fields
    )


def change(text: str, *targets: str, key: str = "a", **fields: Any) -> dict[str, Any]:
    """A step that modifies its targets; its command makes it another plan."""
    return {
        "id": key,
        "tool": "shell",
        "inputs": {"command": f"echo {text}"},
        "targets": list(targets) or ["localhost"],
        **fields,
    }


def look(text: str = "x", *targets: str, key: str = "a") -> dict[str, Any]:
    """A step that only reads."""
    return {"id": key, "tool": "noop"}


def plan(*steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"title": "test", "steps": list(steps), **fields}


def ask(by: User, *steps: dict[str, Any], **submission: Any) -> Accepted:
    return submit(Submission(plan(*steps), **submission), by=by)


def ask_new(by: User, *targets: str, **submission: Any) -> int:
    """Submit a modifying plan that nobody submitted before; return its execution."""
    return ask(by, change(f"new-{next(_numbers)}", *targets), **submission).execution_id


def together(*calls: Callable[[], Any]) -> list[Any]:
    """As `at_once`, for calls that use Django's connections: each thread closes its own."""

    def closing(call: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            try:
                return call()
            finally:
                connection.close()

        return run

    return at_once(*map(closing, calls))


def status_of(execution_id: int) -> str:
    return Execution.objects.values_list("status", flat=True).get(pk=execution_id)


def steps_of(execution_id: int) -> dict[str, str]:
    return dict(Step.objects.filter(execution_id=execution_id).order_by("position").values_list("key", "status"))


def kinds(execution_id: int) -> list[str]:
    return list(Event.objects.filter(execution_id=execution_id).order_by("seq").values_list("kind", flat=True))


def assert_told_in_order(*execution_ids: int) -> None:
    """Every series is gapless, and its last move of the execution is the status that the row has."""
    for execution in Execution.objects.filter(pk__in=execution_ids) if execution_ids else Execution.objects.all():
        events = list(Event.objects.filter(execution_id=execution.pk).order_by("seq"))
        assert [event.seq for event in events] == list(range(1, execution.last_seq + 1))
        moves = [event.data["to"] for event in events if event.kind.startswith("execution.") and event.data]
        assert moves[-1] == execution.status
        assert sum(event.kind == "execution.submitted" for event in events) == 1


def assert_out_of_the_queue(*execution_ids: int) -> None:
    assert not QueueEntry.objects.filter(pk__in=execution_ids).exists()
    assert not AssetLock.objects.filter(execution_id__in=execution_ids).exists()


def waiting_on_wave(by: User, approver: User, hosts: Sequence[str], *, failed: int = 0, **fields: Any) -> int:
    """An execution that its worker has left waiting before the second of three waves; of the first `failed` failed."""
    first = len(hosts) // 3
    fan_out = {
        "waves": [first, first, "rest"],
        "max_failures": failed,
        "gate": {"approval": True, "max_failures": failed},
    }
    one = ask(by, change(f"wave-{next(_numbers)}", *hosts, key="roll-out", fan_out=fan_out, **fields)).execution_id
    execution = Execution.objects.get(pk=one)
    Approval.objects.create(
        execution=execution, by=approver, approved=True, plan_hash=execution.plan_hash,
        targets_hash=execution.targets_hash,
    )  # fmt: skip
    targets = StepTarget.objects.filter(execution=execution)
    began = {"attempt": 1, "started_at": execution.created_at, "finished_at": execution.created_at}
    targets.filter(position__lte=first).update(status="succeeded", exit_code=0, stdout="done\nversion 2\n", **began)
    targets.filter(position__lte=failed).update(status="failed", error_code="exit_code", exit_code=7, error="It broke.")
    execution.steps.update(started_at=execution.created_at)
    PendingApproval.objects.filter(pk=one).update(steps=["roll-out"], waves=[2])
    Execution.objects.filter(pk=one).update(
        started_at=execution.created_at, status_reason="Wave 2 of 3 of step 'roll-out' (shell) waits for approval."
    )
    return one


class FakeWorker:
    """A worker's side of the database, without its process: it claims, and writes what the ledger would."""

    def __init__(self) -> None:
        self.id = new_worker()
        self.connection: Connection = connect("test")
        self._groups = itertools.count(1)

    def close(self) -> None:
        self.connection.close()

    def claim(self, limit: int = 100) -> dict[int, Lease]:
        claimed = queue.claim(self.connection, self.id, limit, LEASE)
        return {lease.execution_id: lease for lease in claimed.leases}

    def commit(self, lease: Lease, **operations: Any) -> bool:
        """Write one execution's record; return whether the lease was still this worker's."""
        execution = {"id": lease.execution_id, "token": lease.token, "n": 1, **operations.pop("execution")}
        event = {"execution_id": lease.execution_id, "k": 1, "actor": "worker:test", **operations.pop("event")}
        rows = {name: [{"execution_id": lease.execution_id, **row} for row in operations.get(name, [])]
                for name in ("steps", "targets")}  # fmt: skip
        whole = {"executions": [execution], "events": [event], "chunks": [], **rows}
        answer = self.connection.execute(
            "SELECT ledger_commit(%s, %s, %s::jsonb, %s)",
            (self.id, next(self._groups), orjson.dumps(whole).decode(), settings.QUEUE_AGEING),
        ).fetchone()
        return answer == ([],)

    def start(self, lease: Lease) -> bool:
        move = {"from": "queued", "to": "running"}
        return self.commit(
            lease,
            execution={"status": "running", "from": ["queued", "cancelling"], "start": True},
            event={"kind": "execution.running", "data": move},
        )

    def finish(self, lease: Lease, status: str, *, steps: str | None = None) -> bool:
        """End it; with `steps`, all of them were pending and are now that."""
        moved: dict[str, Any] = {}
        if steps is not None:
            for name, model in (("steps", Step), ("targets", StepTarget)):
                ids = model.objects.filter(execution_id=lease.execution_id, status="pending").values_list(
                    "pk", flat=True
                )
                moved[name] = [{"id": pk, "from": "pending", "to": steps, "ran": True} for pk in ids]
        return self.commit(
            lease,
            execution={"status": status, "from": ["running", "cancelling"], "end": "finish"},
            event={"kind": f"execution.{status}", "data": {"to": status}},
            **moved,
        )

    def give_up(self, lease: Lease, why: str = "engine_error", **moved: Any) -> bool:
        return self.commit(
            lease,
            execution={
                "status": "needs_attention", "from": ["queued", "running"], "reason": "look", "end": "dead",
                "dead_reason": why,
            },
            event={"kind": "execution.needs_attention", "data": {"to": "needs_attention"}},
            **moved,
        )  # fmt: skip

    def lose_track(self, lease: Lease, *keys: str) -> bool:
        """Put it into the DLQ with these steps' outcome unknown."""
        moved: dict[str, Any] = {"steps": [], "targets": []}
        for step in Step.objects.filter(execution_id=lease.execution_id, key__in=keys):
            moved["steps"].append({"id": step.pk, "from": "pending", "to": "unknown", "ran": True})
            moved["targets"] += [
                {"id": target.pk, "from": "pending", "to": "unknown", "ran": True} for target in step.targets.all()
            ]
        return self.give_up(lease, "outcome_unknown", **moved)
