"""The admin: what operators see there, and what they can do."""

from __future__ import annotations

import pytest
from django.contrib.admin import SimpleListFilter, site
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from executions.models import Asset, Execution, StepTarget
from queueing.models import DeadLetter, QueueControl, QueueEntry, Worker
from safety.models import ApiToken, User
from tests.executions.live.rows import make_execution, make_user, move_target

pytestmark = pytest.mark.django_db

CHANGELISTS = [
    "executions_execution", "executions_step", "executions_asset", "executions_assetgroup", "queueing_deadletter",
    "queueing_queueentry", "queueing_assetlock", "queueing_worker", "safety_user", "safety_apitoken",
    "safety_timeoutpolicy", "safety_maskingrule", "auth_group",
]  # fmt: skip


def signed_in(name: str, *roles: str, superuser: bool = False) -> Client:
    user = make_user(name, is_staff=True, is_superuser=superuser)
    user.groups.set(Group.objects.filter(name__in=roles))
    client = Client()
    client.force_login(user, backend="safety.backends.PasswordBackend")
    return client


def needing_attention(by: User, *, unknown: bool = False) -> DeadLetter:
    execution = make_execution(by, status="needs_attention")
    if unknown:
        target = StepTarget.objects.filter(execution=execution).select_related("step", "execution")[0]
        move_target(target, "unknown")
    return DeadLetter.objects.create(
        execution_id=execution.pk, tenant_id=by.tenant_id, reason="attempts_exhausted", attempts=3, error="worker lost"
    )


def act(client: Client, model: str, action: str, ids: list[int], reason: str = "because") -> str:
    fields = {"action": action, "_selected_action": ids, "reason": reason, "index": "0"}
    response = client.post(reverse(f"admin:{model}_changelist"), fields, follow=True)
    return response.content.decode()


@pytest.mark.parametrize("name", CHANGELISTS)
def test_every_list_and_every_question_of_it_can_be_asked(name: str) -> None:
    alice = make_user("alice")
    needing_attention(alice)
    ApiToken.objects.create(user=alice, digest="0" * 64)
    Worker.objects.create(cluster="c", host="h", pid=1, version="1", slots=1)
    client = signed_in("root", superuser=True)
    address = reverse(f"admin:{name}_changelist")
    assert client.get(address).status_code == 200
    assert client.get(f"{address}?q=1").status_code == 200
    model_admin = next(a for m, a in site._registry.items() if f"{m._meta.app_label}_{m._meta.model_name}" == name)
    for question in model_admin.list_filter:
        if isinstance(question, type) and issubclass(question, SimpleListFilter):
            choices = question.lookups(None, None, model_admin)  # type: ignore[arg-type]
            for value, _word in choices or ():
                assert client.get(f"{address}?{question.parameter_name}={value}").status_code == 200


def test_details_are_shown_with_links_both_ways() -> None:
    entry = needing_attention(make_user("alice"))
    client = signed_in("olga", "operator")
    execution = client.get(reverse("admin:executions_execution_change", args=[entry.execution_id])).content.decode()
    assert f"/admin/queueing/deadletter/{entry.pk}/change/" in execution
    assert f'href="/executions/{entry.execution_id}/"' in execution
    assert "execution.submitted" in execution
    letter = client.get(reverse("admin:queueing_deadletter_change", args=[entry.pk])).content.decode()
    assert f'href="/executions/{entry.execution_id}/"' in letter
    assert "Find out what ends the workers" in letter
    step = Execution.objects.get(pk=entry.execution_id).steps.all()[0]
    assert client.get(reverse("admin:executions_step_change", args=[step.pk])).status_code == 200


@pytest.mark.parametrize("name", ["executions_execution", "executions_step", "queueing_queueentry", "queueing_worker"])
def test_what_the_engine_owns_cannot_be_edited_by_anybody(name: str) -> None:
    execution = make_execution(make_user("alice"))
    pk = {"executions_execution": execution.pk, "executions_step": execution.steps.all()[0].pk}.get(name, 1)
    QueueEntry.objects.create(
        execution_id=1, tenant_id=execution.tenant_id, state="ready", priority=5, available_at=execution.created_at,
        place=execution.created_at, attempts_left=3,
    )  # fmt: skip
    client = signed_in("root", superuser=True)
    assert client.get(reverse(f"admin:{name}_add")).status_code == 403
    assert client.post(reverse(f"admin:{name}_change", args=[pk]), {"status": "succeeded"}).status_code in (302, 403)
    assert client.post(reverse(f"admin:{name}_delete", args=[pk]), {"post": "yes"}).status_code in (302, 403)
    execution.refresh_from_db()
    assert execution.status == "running"


def test_nothing_of_another_tenant_is_shown_not_even_to_a_superuser() -> None:
    mallory = make_user("mallory", tenant="other")
    entry = needing_attention(mallory)
    Asset.objects.create(tenant=mallory.tenant, name="their-asset", connection="local")
    client = signed_in("root", superuser=True)
    for name in ("executions_execution", "executions_asset", "queueing_deadletter", "safety_user"):
        page = client.get(reverse(f"admin:{name}_changelist")).content.decode()
        assert "mallory" not in page
        assert "their-asset" not in page
        assert f"#{entry.execution_id}<" not in page
    assert client.get(reverse("admin:executions_execution_change", args=[entry.execution_id])).status_code == 302


def test_requeue_says_how_many_and_why_not_the_others() -> None:
    alice = make_user("alice")
    entries = [needing_attention(alice) for _ in range(3)]
    blocked = needing_attention(alice, unknown=True)
    gone = needing_attention(alice)
    DeadLetter.objects.filter(pk=gone.pk).update(state="resolved", closed_at=gone.created_at)
    client = signed_in("olga", "operator")
    page = act(client, "queueing_deadletter", "requeue", [entry.pk for entry in [*entries, blocked, gone]])
    assert "3 of 5 requeued" in page
    assert "1 had moved on" in page
    assert "1 have a step whose outcome has to be said first" in page
    assert Execution.objects.filter(status="queued").count() == 3
    assert QueueEntry.objects.count() == 3


def test_discard_wants_a_reason_and_ends_the_execution() -> None:
    entry = needing_attention(make_user("alice"))
    client = signed_in("olga", "operator")
    assert "Say why" in act(client, "queueing_deadletter", "discard", [entry.pk], reason="")
    assert "1 of 1 discarded" in act(client, "queueing_deadletter", "discard", [entry.pk], reason="replaced")
    entry.refresh_from_db()
    assert (entry.state, entry.closed_by, entry.close_reason) == ("discarded", "user:olga", "replaced")
    assert Execution.objects.get(pk=entry.execution_id).status == "failed"


def test_a_viewer_may_look_but_not_decide() -> None:
    entry = needing_attention(make_user("alice"))
    client = signed_in("victor", "viewer")
    page = act(client, "queueing_deadletter", "discard", [entry.pk])
    assert "0 of 1 discarded" in page
    assert "you may not decide on" in page
    entry.refresh_from_db()
    assert entry.state == "open"


def test_somebody_without_a_role_sees_nothing() -> None:
    client = signed_in("nobody")
    assert client.get(reverse("admin:executions_execution_changelist")).status_code == 403
    assert "You have no role" in client.get("/admin/").content.decode()


def test_cancel_takes_the_reason_and_reports_each() -> None:
    alice = make_user("alice")
    waiting = make_execution(alice, status="pending_approval")
    ended = make_execution(alice, status="succeeded")
    client = signed_in("olga", "operator")
    page = act(client, "executions_execution", "cancel", [waiting.pk, ended.pk], reason="wrong hosts")
    assert "1 of 2 cancelled; 1 had ended already." in page
    waiting.refresh_from_db()
    assert waiting.status == "cancelled"
    assert waiting.event_set.get(kind="execution.cancelled").reason == "wrong hosts"


def test_the_home_says_what_needs_a_person() -> None:
    alice = make_user("alice")
    needing_attention(alice)
    make_execution(alice, status="pending_approval")
    page = signed_in("olga", "operator").get("/admin/").content.decode()
    for label in ("Approvals waiting", "Open DLQ entries", "Oldest wait", "Nobody takes work."):
        assert label in page


def test_an_operator_can_drain_and_resume_the_queue_and_a_viewer_cannot() -> None:
    drain = reverse("admin:queueing_worker_drain")
    form = {"reason": "upgrade", "_form_submitted": "True"}
    assert signed_in("victor", "viewer").post(drain, form).status_code == 403
    assert not QueueControl.objects.filter(draining=True).exists()
    client = signed_in("olga", "operator")
    client.post(drain, form)
    control = QueueControl.objects.get()
    assert (control.draining, control.changed_by, control.reason) == (True, "user:olga", "upgrade")
    client.post(reverse("admin:queueing_worker_resume"), form)
    assert not QueueControl.objects.get().draining


def test_an_administrator_cannot_make_superusers_or_change_them() -> None:
    root = make_user("root", is_superuser=True, is_staff=True)
    client = signed_in("ada", "admin")
    form = client.get(reverse("admin:safety_user_change", args=[User.objects.get(username="ada").pk])).content.decode()
    assert 'name="is_superuser"' not in form
    changed = client.post(reverse("admin:safety_user_change", args=[root.pk]), {"username": "root", "is_active": ""})
    assert changed.status_code == 403
    root.refresh_from_db()
    assert root.is_active


def test_what_is_made_in_the_admin_belongs_to_the_tenant_of_who_makes_it() -> None:
    client = signed_in("ada", "admin")
    fields = {
        "name": "db-9",
        "connection": "ssh",
        "status": "active",
        "environment": "production",
        "criticality": "low",
    }
    response = client.post(reverse("admin:executions_asset_add"), fields | {"tags": "", "is_active": "on"})
    assert response.status_code == 302
    assert Asset.objects.get(name="db-9").tenant.name == "default"


def test_a_misspelt_word_is_refused_unless_it_was_there_before() -> None:
    client = signed_in("ada", "admin")
    fields = {"name": "db-9", "connection": "ssh", "status": "active", "environment": "prodution", "criticality": "low"}
    refused = client.post(reverse("admin:executions_asset_add"), fields | {"is_active": "on"})
    assert "environment must be one of" in refused.content.decode()
    client.post(reverse("admin:executions_asset_add"), fields | {"is_active": "on", "environment": "Production"})
    made = Asset.objects.get(name="db-9")
    assert made.environment == "production"

    # A service calls a system by a word of its own; whoever changes something else need not know a better one.
    Asset.objects.filter(pk=made.pk).update(os_type="solaris")
    page = reverse("admin:executions_asset_change", args=[made.pk])
    changed = client.post(page, fields | {"environment": "test", "os_type": "solaris", "is_active": "on"})
    assert changed.status_code == 302
    made.refresh_from_db()
    assert (made.environment, made.os_type) == ("test", "solaris")


def test_revoked_tokens_are_counted() -> None:
    alice = make_user("alice")
    tokens = [ApiToken.objects.create(user=alice, digest=str(n) * 64) for n in range(2)]
    client = signed_in("ada", "admin")
    assert "2 of 2 revoked." in act(client, "safety_apitoken", "revoke", [token.pk for token in tokens])
    assert "0 of 2 revoked; 2 had been revoked before." in act(
        client, "safety_apitoken", "revoke", [token.pk for token in tokens]
    )


def test_the_list_of_executions_costs_the_same_number_of_queries_however_long_it_is(
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    alice = make_user("alice")
    client = signed_in("olga", "operator")
    address = reverse("admin:executions_execution_changelist")
    make_execution(alice)
    with django_assert_max_num_queries(7):  # session, user, its tenant, roles, page
        client.get(address)
    for n in range(20):
        make_execution(make_user(f"user-{n}"))
    with django_assert_max_num_queries(7):
        client.get(address)


@pytest.mark.parametrize("name", ["index", "queueing_worker_changelist", "queueing_deadletter_changelist"])
def test_who_is_not_signed_in_is_led_to_the_form_and_back(name: str) -> None:
    wanted = reverse(f"admin:{name}")
    answer = Client().get(wanted, follow=True)
    assert answer.status_code == 200
    assert answer.redirect_chain == [(f"{reverse('admin:login')}?next={wanted}", 302)]
    assert 'name="password"' in answer.content.decode()
