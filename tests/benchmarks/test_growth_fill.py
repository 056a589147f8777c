"""What the growth measurement fills in is what it says, and what the system itself would have written."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection

from benchmarks.ours import growth_fill
from benchmarks.ours.submit_plans import plan
from executions.models import Event, Execution, StepTarget
from executions.services import Submission, submit
from queueing import queue
from queueing.connections import connect
from queueing.models import AssetLock, DeadLetter, QueueEntry
from queueing.queue import Connection
from safety.accounts import ensure_first_admin
from safety.models import User
from tests.queueing.lines import LEASE, new_worker

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def worker_connection(transactional_db: None) -> Iterator[Connection]:
    with connect("test") as other:
        yield other


def test_a_small_fill_holds_what_it_says_and_can_be_claimed(
    monkeypatch: pytest.MonkeyPatch, worker_connection: Connection
) -> None:
    for name, number in (("READY", 30), ("WAITING", 20), ("FINISHED", 10), ("DEAD", 5)):
        monkeypatch.setattr(growth_fill, name, number)
    ensure_first_admin()
    template = submit(Submission(plan(0)), by=User.objects.get(username="admin")).execution_id
    with connection.cursor() as cursor:
        made = growth_fill.fill(cursor, template, 1)
    assert made == {"ready": 30, "waiting": 20, "finished": 10, "dead": 5, "events": 10 * 20 + 5 + 20 + 30}
    assert Execution.objects.count() == 1 + 65
    assert StepTarget.objects.count() == 1 + 65
    assert Event.objects.count() == 1 + made["events"]
    assert DeadLetter.objects.filter(state="open").count() == 5
    assert QueueEntry.objects.filter(state="blocked").count() == 19
    assert AssetLock.objects.filter(asset_id=growth_fill.BUSY_ASSET, state="held").count() == 1
    claim = queue.claim(worker_connection, new_worker(slots=100), 100, LEASE)
    assert len(claim.leases) == 30 + 1  # and the template; none of those that wait for the busy asset
    assert submit(Submission(plan(1)), by=User.objects.get(username="admin")).execution_id > growth_fill.READY_FROM
