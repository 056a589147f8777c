"""What the audit is told of decisions on executions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from executions.approval_points import Point
from executions.models import Execution
from executions.services.refusals import Refused
from safety import audit
from safety.models import User


def record_decision(
    execution: Execution, verb: str, point: Point, by: User | None, reason: str, **more: object
) -> None:
    """Write a decision into the audit, in the transaction that carries it out."""
    audit.record(
        f"{'step' if point.step else 'execution'}.{verb}",
        by=by,
        tenant_id=execution.tenant_id,
        object_type="execution",
        object_id=execution.pk,
        object_name=execution.title,
        reason=reason,
        data={
            "plan_hash": execution.plan_hash,
            "targets_hash": execution.targets_hash,
            **point.data,
            **more,
        },
    )


@contextmanager
def refusals_recorded(
    verb: str, execution_id: int, by: User, step: str | None = None, wave: int | None = None
) -> Iterator[None]:
    """Record what is refused, after its transaction was rolled back."""
    try:
        yield
    except Refused as refused:
        audit.record_refusal(
            f"{'step' if step else 'execution'}.{verb}",
            by=by,
            object_type="execution",
            object_id=execution_id,
            code=refused.code,
            reason=refused.message,
            data=Point(step or "", wave or 0).data,
        )
        raise
