"""Freeing the lock of an asset: its holder is cancelled, and its lease ends."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.db import transaction

from executions.models import Asset, Execution
from executions.services.records import remark
from executions.services.refusals import Refused, audited, forbidden
from executions.services.stop import cancel
from queueing import queue
from queueing.models import AssetLock, LockState
from safety import audit, rbac
from safety.models import User

# Reaping looks for leases that ran out so often; see UPKEEP_SECONDS of the worker, and a second to spare.
REAPED_WITHIN_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class Freed:
    """What became of one holder: its status now, and whether a worker had it, whose lease is to end."""

    execution_id: int
    status: str
    revoked: bool


def free_within_seconds() -> float:
    """How long it takes at most from asking until a lock is free.

    Its worker lets go within a second or so. One that does not may renew for a third of a lease more, then its lease
    runs out: so long its commands may still run, and nobody else may have the asset.
    """
    return settings.LEASE.total_seconds() * 4 / 3 + REAPED_WITHIN_SECONDS


@audited("lock.free", "asset")
def free_lock(asset_id: int, *, by: User, reason: str) -> list[Freed]:
    """Free the lock of an asset: cancel the executions that hold it, and let their leases end.

    Never at once, and never by force: the lock goes when the worker has let go, or when its lease has run out. Of a
    lock that is shared every holder is cancelled. Raises Refused: reason_required, not_found, not_held (409),
    forbidden; then nothing was changed.
    """
    if not reason.strip():
        raise Refused(
            "reason_required", "Freeing a lock needs a reason.", "Say why: it is kept with the execution.", status=422
        )
    asset = Asset.objects.filter(rbac.visible_assets(by), pk=asset_id).first()
    if asset is None:
        raise Refused("not_found", f"There is no asset {asset_id}.", "Look it up in the inventory.", status=404)
    held = AssetLock.objects.filter(asset_id=asset.pk, state=LockState.HELD).values_list("execution_id", flat=True)
    holders = list(Execution.objects.filter(pk__in=list(held)).order_by("pk"))
    if not holders:
        raise _not_held(asset)
    for holder in holders:
        if not rbac.can_cancel(by, holder):
            raise forbidden(
                f"You may not cancel execution {holder.pk}, which holds the lock.",
                "Ask the one who submitted it, an operator or an administrator.",
            )
    freed = [one for holder in holders if (one := _free(holder, asset, by, reason.strip())) is not None]
    if not freed:
        raise _not_held(asset)
    return freed


def _free(holder: Execution, asset: Asset, by: User, reason: str) -> Freed | None:
    """Cancel one holder and let its lease end; None when it had ended already, and its lock with it.

    Cancelled first, so that a worker that lets go in order writes that, and who asked. Should it change hands in
    between (its worker shut down) the lease that is revoked is the next worker's, which has it to end it.
    """
    why = f"To free the lock on {asset.name}: {reason}"
    try:
        status = cancel(holder.pk, by=by, reason=why)
    except Refused as refused:
        if refused.code in ("already_final", "not_found"):
            return None
        raise
    with transaction.atomic():
        # The entry's row is ours until the event is written, and the ledger takes it before it writes the end: so the
        # end is still the last event.
        revoked = queue.revoke(holder.pk, f"{by.actor}: {why}")
        audit.record(
            "lock.free", by=by, object_type="asset", object_id=asset.pk, object_name=asset.name, reason=reason,
            data={"execution": holder.pk, "revoked": revoked},
        )  # fmt: skip
        if revoked:
            remark(holder.pk, "execution.revoked", actor=by.actor, reason=reason, data={"asset": asset.name})
    return Freed(holder.pk, status, revoked)


def _not_held(asset: Asset) -> Refused:
    return Refused(
        "not_held", f"Nobody holds the lock on {asset.name}.", "Nothing to do: whoever is next gets it.", status=409
    )
