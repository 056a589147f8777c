"""Releasing values to workers: recorded before they are given out, as the rules allow, many with few questions."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction

from safety.accounts import set_roles
from safety.models import AuditRecord, SecretRule, Tenant, User
from safety.secrets import SecretUnavailable, StoredSecret
from safety.secrets.keeping import store_secret
from safety.secrets.releasing import Wanted, release

pytestmark = [pytest.mark.django_db]


@pytest.fixture
def ruth(db: None) -> User:
    user = User.objects.create_user("ruth")
    set_roles(user, ["requester"])
    return user


def wanted(by: User, *paths: str, execution: int = 7, purpose: str = "step") -> Wanted:
    return Wanted(by.tenant_id, by.pk, execution, "dump", frozenset(paths), purpose)


def keep(path: str, tenant: str = "default") -> None:
    store_secret(Tenant.objects.get_or_create(name=tenant)[0], path, f"value of {path}", by=None)


def uses() -> list[tuple[Any, ...]]:
    records = AuditRecord.objects.filter(action="secret.use").order_by("pk")
    return list(records.values_list("actor", "object_id", "allowed", "code", "data__execution"))


def test_each_access_is_on_record_granted_or_not(ruth: User) -> None:
    keep("there")
    keep("ruled")
    keep("theirs", tenant="other")
    SecretRule.objects.create(tenant=ruth.tenant, prefix="ruled")
    [answers] = release([wanted(ruth, "there", "ruled", "theirs", "missing")])
    assert isinstance(answers["there"], StoredSecret)
    assert answers["there"].value(None) == "value of there"
    refused = {path: answer for path, answer in answers.items() if isinstance(answer, SecretUnavailable)}
    assert refused.keys() == {"ruled", "theirs", "missing"}
    assert uses() == [
        ("user:ruth", "missing", False, "secret_unavailable", 7),
        ("user:ruth", "ruled", False, "secret_unavailable", 7),
        ("user:ruth", "theirs", False, "secret_unavailable", 7),
        ("user:ruth", "there", True, "", 7),
    ]
    assert "value of" not in str(list(AuditRecord.objects.values()))


def test_what_cannot_be_recorded_is_not_released(ruth: User) -> None:
    keep("there")
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION refuse_use() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no room'; END $$;"
            "CREATE TRIGGER refuse_use BEFORE INSERT ON safety_auditrecord EXECUTE FUNCTION refuse_use()"
        )
    with pytest.raises(DatabaseError, match="no room"), transaction.atomic():
        release([wanted(ruth, "there")])
    assert uses() == []


def test_somebody_who_is_not_active_any_more_gets_nothing(ruth: User) -> None:
    keep("there")
    User.objects.filter(pk=ruth.pk).update(is_active=False)
    answers = release([wanted(ruth, "there"), wanted(ruth, "there", purpose="credential")])
    assert all(isinstance(one["there"], SecretUnavailable) for one in answers)


def test_a_rule_says_who_names_a_secret_in_a_plan_and_not_whose_plan_runs_on_a_machine(ruth: User) -> None:
    keep("ssh/web")
    SecretRule.objects.create(tenant=ruth.tenant, prefix="ssh")
    named, reached = release([wanted(ruth, "ssh/web"), wanted(ruth, "ssh/web", purpose="credential")])
    assert isinstance(named["ssh/web"], SecretUnavailable)
    assert isinstance(reached["ssh/web"], StoredSecret)
    assert uses() == [("user:ruth", "ssh/web", False, "secret_unavailable", 7), ("user:ruth", "ssh/web", True, "", 7)]


def test_many_executions_share_their_questions(ruth: User, django_assert_num_queries: Any) -> None:
    for number in range(50):
        keep(f"many/{number}")
    wishes = [wanted(ruth, f"many/{number}", execution=number) for number in range(50)]
    with django_assert_num_queries(5):  # tenants, users, rules, secrets, records
        answers = release(wishes)
    assert all(isinstance(one[f"many/{number}"], StoredSecret) for number, one in enumerate(answers))
    assert len(uses()) == 50
