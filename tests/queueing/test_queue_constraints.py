"""The database itself refuses what must never be, whatever the code believes."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from queueing.models import AssetLock, DeadLetter, QueueControl, QueueEntry
from tests.queueing.lines import enqueue, entry

pytestmark = [pytest.mark.django_db]


def change_entry(**changes: object) -> None:
    with transaction.atomic():
        QueueEntry.objects.filter(pk=1).update(**changes)


def test_an_entry_is_leased_if_and_only_if_it_has_a_token_a_worker_and_an_end() -> None:
    enqueue(entry(1))
    whole = {"state": "leased", "token": 5, "worker_id": 1, "lease_expires_at": timezone.now()}
    for missing in ("token", "worker_id", "lease_expires_at"):
        with pytest.raises(IntegrityError, match="leased_if_and_only_if_token"):
            change_entry(**{**whole, missing: None})
    for state in ("ready", "blocked", "delayed"):
        with pytest.raises(IntegrityError, match="leased_if_and_only_if_token"):
            change_entry(**{**whole, "state": state})
    change_entry(**whole)


def test_an_asset_has_one_exclusive_holder_and_a_holder_has_a_fence() -> None:
    enqueue(entry(1, 7), entry(2, 7), entry(3, shared=[7]), entry(4, shared=[7]))
    held = {"state": "held", "fence": 1}
    AssetLock.objects.filter(execution_id=1).update(**held)
    with pytest.raises(IntegrityError, match="one_exclusive_holder_per_asset"), transaction.atomic():
        AssetLock.objects.filter(execution_id=2).update(**held)
    AssetLock.objects.filter(execution_id=1).update(state="queued", fence=None)
    with pytest.raises(IntegrityError, match="held_if_and_only_if_fenced"), transaction.atomic():
        AssetLock.objects.filter(execution_id=1).update(state="held")
    with pytest.raises(IntegrityError, match="held_if_and_only_if_fenced"), transaction.atomic():
        AssetLock.objects.filter(execution_id=1).update(fence=3)
    AssetLock.objects.filter(execution_id__in=[3, 4]).update(**held)


def test_an_execution_has_one_entry_and_one_request_at_an_asset() -> None:
    enqueue(entry(1, 7))
    with pytest.raises(IntegrityError), transaction.atomic():
        enqueue(entry(1))
    with pytest.raises(IntegrityError, match="one_request_per_asset"), transaction.atomic():
        AssetLock.objects.create(execution_id=1, asset_id=7, place=timezone.now(), exclusive=True, state="queued")


@pytest.mark.parametrize("priority", [0, 11])
def test_a_priority_is_from_1_to_10(priority: int) -> None:
    with pytest.raises(IntegrityError, match="priority_from_1_to_10"), transaction.atomic():
        enqueue(entry(1, priority=priority))


def test_an_execution_has_one_open_dlq_entry_and_any_number_of_closed_ones() -> None:
    def add(**fields: object) -> DeadLetter:
        with transaction.atomic():
            return DeadLetter.objects.create(
                execution_id=1, tenant_id=1, reason="engine_error", attempts=1, **{"state": "open", **fields}
            )

    add(state="requeued", closed_at=timezone.now())
    add(state="requeued", closed_at=timezone.now())
    add()
    with pytest.raises(IntegrityError, match="one_open_dlq_entry_per_execution"):
        add()
    with pytest.raises(IntegrityError, match="open_if_and_only_if_not_closed"):
        add(state="discarded")
    with pytest.raises(IntegrityError, match="open_if_and_only_if_not_closed"):
        add(closed_at=timezone.now())


def test_the_queue_has_one_control_row() -> None:
    with pytest.raises(IntegrityError, match="one_control_row"), transaction.atomic():
        QueueControl.objects.create(pk=2)
