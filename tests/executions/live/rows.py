"""Rows of executions as the engine leaves them, for tests of what is shown: written directly, with the NOTIFY."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from executions.models import Asset, Event, Execution, ExecutionPlan, OutputChunk, Step, StepTarget
from executions.states import FINAL_EXECUTION, FINAL_STEP
from safety.models import Tenant, User

PASSWORD = "correct horse battery staple"


def make_user(name: str = "alice", *, tenant: str = "default", **fields: Any) -> User:
    """Make a user who can sign in with PASSWORD."""
    user = User(username=name, tenant=Tenant.objects.get_or_create(name=tenant)[0], **fields)
    user.set_password(PASSWORD)
    user.save()
    return user


def make_execution(
    by: User,
    *,
    steps: Sequence[str] = ("check", "apply"),
    hosts: Sequence[str] = ("localhost",),
    status: str = "running",
    step_status: str = "pending",
    title: str = "Restart nginx",
    **fields: Any,
) -> Execution:
    """Make an execution of `steps` on `hosts` with its first event; assets are found or made by name."""
    final = status in FINAL_EXECUTION
    now = timezone.now()
    document = _document(title, steps, hosts)
    with transaction.atomic():
        execution = Execution.objects.create(
            **{
                "tenant": by.tenant, "actor": by, "title": title, "status": status, "plan_hash": "ab12" * 16,
                "action_class": "read", "sla_class": "fast", "approval_level": 0, "priority": 5,
                "environment": "development", "execution_seconds": 600, "step_seconds": 60, "max_attempts": 3,
                "started_at": now if status not in ("queued", "pending_approval") else None,
                "finished_at": now if final else None, **fields,
            }
        )  # fmt: skip
        ExecutionPlan.objects.create(execution=execution, document=document)
        assets = [_asset(by.tenant, name) for name in hosts]
        made = Step.objects.bulk_create(
            Step(
                execution=execution, position=position, key=key, tool="shell", description=f"Does {key}",
                status=step_status, started_at=None if step_status == "pending" else now,
                finished_at=now if step_status in FINAL_STEP else None,
            )
            for position, key in enumerate(steps, 1)
        )  # fmt: skip
        StepTarget.objects.bulk_create(
            StepTarget(
                execution=execution, step=step, position=position, asset=asset, name=asset.name, status=step_status,
                attempt=0 if step_status == "pending" else 1,
            )
            for step in made
            for position, asset in enumerate(assets, 1)
        )  # fmt: skip
    say(execution, "execution.submitted", actor=by.actor, data={"title": title})
    return execution


def say(execution: Execution, kind: str, *, actor: str = "system", reason: str = "", data: Any = None) -> int:
    """Write one event and return its `seq`."""
    with transaction.atomic():
        seq = _take(execution, 1)
        Event.objects.create(execution=execution, seq=seq, kind=kind, actor=actor, reason=reason, data=data or {})
        notify(str(execution.pk))
    return seq


def print_out(target: StepTarget, texts: Sequence[str], stream: str = "stdout") -> int:
    """Write one chunk of output for each text, in one transaction; return the last `seq`."""
    with transaction.atomic():
        last = _take(target.execution, len(texts))
        OutputChunk.objects.bulk_create(
            (
                OutputChunk(execution_id=target.execution_id, seq=last - len(texts) + n, step_target=target,
                            stream=stream, text=text)
                for n, text in enumerate(texts, 1)
            ),
            batch_size=5000,
        )  # fmt: skip
        notify(str(target.execution_id))
    return last


def move(execution: Execution, status: str, *, kind: str, actor: str = "system", reason: str = "") -> int:
    """Give the execution a status, with its event."""
    changes: dict[str, Any] = {"status": status, "status_reason": reason}
    if status in FINAL_EXECUTION:
        changes["finished_at"] = timezone.now()
    with transaction.atomic():
        Execution.objects.filter(pk=execution.pk).update(**changes)
        return say(execution, kind, actor=actor, reason=reason)


def move_target(target: StepTarget, status: str, **changes: Any) -> int:
    """Give a target and its step a status, with the event."""
    if status in FINAL_STEP:
        changes.setdefault("finished_at", timezone.now())
    if status == "running":
        changes |= {"started_at": timezone.now(), "attempt": target.attempt + 1}
    with transaction.atomic():
        StepTarget.objects.filter(pk=target.pk).update(status=status, **changes)
        Step.objects.filter(pk=target.step_id).update(
            status=status, **{k: v for k, v in changes.items() if k in ("started_at", "finished_at", "error")}
        )
        data = {"step": target.step.key, "target": target.name, "step_target": target.pk, "to": status}
        return say(target.execution, f"step.{status}", actor="worker:test/1", data=data)


def notify(payload: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify('opsconductor_events', %s)", [payload])


def _take(execution: Execution, count: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE executions_execution SET last_seq = last_seq + %s WHERE id = %s RETURNING last_seq",
            [count, execution.pk],
        )
        return int(cursor.fetchone()[0])


def _asset(tenant: Tenant, name: str) -> Asset:
    return Asset.objects.get_or_create(
        tenant=tenant, name=name, defaults={"hostname": name, "connection": "local", "environment": "development"}
    )[0]


def _document(title: str, steps: Sequence[str], hosts: Sequence[str]) -> dict[str, Any]:
    return {
        "title": title, "environment": "development", "labels": {}, "version": 1, "rollback_plan": [],
        "safety_checks": [], "observability": {}, "not_checked": ["Nobody else is working on the machine"],
        "steps": [
            {
                "id": key, "position": position, "description": f"Does {key}", "tool": "shell", "action_class": "read",
                "inputs": {"command": f"echo {key}", "token": {"type": "secret", "path": "db/orders"}},
                "depends_on": [steps[position - 2]] if position > 1 else [],
                "targets": [{"asset_id": 0, "name": name, "hostname": name, "ip_address": None, "connection": "local",
                             "environment": "development", "row": {}} for name in hosts],
                "on_failure": "stop", "retry": {"max_attempts": 1, "delay_seconds": 0}, "timeout_seconds": None,
                "default_timeout_seconds": 60.0, "idempotent": False, "irreversible": False,
                "requires_approval": False, "success": {"exit_codes": [0], "stdout_matches": None}, "rollback": None,
                "fan_out": {"max_concurrent": 20, "max_failures": 0}, "estimated_duration": 1.0,
                "max_output_bytes": 1000000, "not_checked": ["The disk is nearly full"],
            }
            for position, key in enumerate(steps, 1)
        ],
    }  # fmt: skip
