"""The operators' home says what needs a person, however long the history is."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from executions import admin_home
from executions.models import Asset, Execution
from queueing.models import AssetLock, Worker
from safety.models import User
from tests.executions.live.rows import make_execution, make_user
from tests.executions.old_rows import dead_letter

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(client: Client) -> User:
    user = make_user("operator", is_superuser=True, is_staff=True)
    client.force_login(user, backend="safety.backends.PasswordBackend")
    return user


def tiles(client: Client) -> dict[str, str]:
    response = client.get("/admin/")
    assert response.status_code == 200
    return {tile.label: tile.value for tile in response.context["needs"]}


def test_every_kind_of_need_is_counted_once_and_only_in_its_own_tenant(client: Client, operator: User) -> None:
    make_execution(operator, status="pending_approval")
    dead_letter(make_execution(operator, status="needs_attention"), None)
    late = make_execution(operator, status="running")
    Execution.objects.filter(pk=late.pk).update(deadline_at=timezone.now() - timedelta(seconds=1))
    make_execution(operator, status="failed", deadline_at=timezone.now() - timedelta(seconds=1))
    yesterday = make_execution(operator, status="timed_out")
    Execution.objects.filter(pk=yesterday.pk).update(finished_at=timezone.now() - timedelta(hours=25))
    make_execution(make_user("stranger", tenant="other"), status="pending_approval")
    found = tiles(client)
    assert found == {
        "Approvals waiting": "1", "Need attention": "1", "Open DLQ entries": "1", "Over their time limit": "1",
        "Silent workers": "0", "Lock held longest": "–", "Failed in 24 hours": "1",
    }  # fmt: skip


def test_the_lock_that_is_held_longest_and_what_is_wrong_with_the_fleet_are_said(
    client: Client, operator: User
) -> None:
    assert "No worker is running: nothing waits." in client.get("/admin/").content.decode()
    execution = make_execution(operator, hosts=["db-1"])
    asset, since = Asset.objects.get(name="db-1"), timezone.now() - timedelta(minutes=12)
    AssetLock.objects.create(
        execution_id=execution.pk, asset_id=asset.pk, place=since, exclusive=True, state="held", fence=1, held_at=since
    )
    Worker.objects.create(cluster="c", host="ops-1", pid=7, version="1", slots=1)
    Worker.objects.create(
        cluster="c", host="ops-2", pid=8, version="1", slots=1, last_beat_at=timezone.now() - timedelta(seconds=40)
    )
    assert tiles(client)["Lock held longest"] == "12 min"
    page = client.get("/admin/").content.decode()
    assert "Worker ops-2/8 has been silent for 40 s." in page
    stranger = make_user("bob", tenant="other", is_superuser=True, is_staff=True)
    client.force_login(stranger, backend="safety.backends.PasswordBackend")
    page = client.get("/admin/").content.decode()
    assert "no machine is held" in page
    assert "ops-2/8" not in page
    assert "/admin/queueing/worker/" not in page  # which is not for other tenants to see


def test_an_execution_that_has_needed_attention_for_long_is_still_counted(
    client: Client, operator: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead_letter(make_execution(operator, status="needs_attention"), None)
    monkeypatch.setattr(admin_home, "NEWEST", 2)
    for _ in range(3):
        make_execution(operator, status="succeeded")
    assert tiles(client)["Need attention"] == "1"


def test_no_figure_is_counted_over_the_whole_history(client: Client, operator: User) -> None:
    with CaptureQueriesContext(connection) as asked:
        tiles(client)
    about_executions = [one["sql"] for one in asked.captured_queries if "executions_execution" in one["sql"]]
    counts = [sql for sql in about_executions if "COUNT" in sql]
    assert len(counts) == 1
    assert '"executions_execution"."id" >' in counts[0]
