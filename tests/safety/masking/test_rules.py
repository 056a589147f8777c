"""Patterns that are switched, and those of the installation's own: checked, and in force within seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.core.exceptions import ValidationError
from django.db import DatabaseError
from django.test import Client
from pytest_django import DjangoAssertNumQueries, DjangoCaptureOnCommitCallbacks

from safety import masking_rules
from safety.masking import active, mask_text
from safety.masking.patterns import BY_NAME, PATTERNS
from safety.models import AuditRecord, MaskingRule, User
from tests.executions.live.rows import make_user

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def as_built_in() -> Iterator[None]:
    active.expire()
    yield
    active.use([pattern for pattern in PATTERNS if pattern.on])
    active._found = None


def look() -> None:
    active.expire()
    masking_rules.refresh()


def test_there_is_a_row_for_every_built_in_pattern_as_it_was_written() -> None:
    assert dict(MaskingRule.objects.values_list("name", "enabled")) == {p.name: p.on for p in PATTERNS}


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_every_pattern_can_be_switched(name: str) -> None:
    MaskingRule.objects.filter(name=name).update(enabled=not BY_NAME[name].on)
    look()
    assert (name in {pattern.name for pattern in active.rules().patterns}) is not BY_NAME[name].on


def test_a_pattern_of_ones_own_masks_its_group_or_all_of_its_match() -> None:
    MaskingRule.objects.create(name="badge", expression=r"badge no\. ([0-9]{6})")
    MaskingRule.objects.create(name="acme", expression=r"(?i)acme-[0-9a-f]{8}")
    MaskingRule.objects.create(name="unused", expression=r"left alone", enabled=False)
    look()
    assert mask_text("badge no. 123456, ACME-0123abcd, left alone") == "badge no. [masked], [masked], left alone"


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("", "Write what the secrets look like"),
        ("(", "RE2 cannot read it"),
        (r"(?<!a)b", "names are not taken|RE2 cannot read it"),
        (r"(a)\1", "RE2 cannot read it"),
        (r"x*", "the empty text"),
        (r".", "matches 'a'"),
        (r"\w+", "matches 'a'"),
        (r"[0-9]+", "matches '5'"),
        (r"error|x{5}", "matches 'error'"),
        (r"(?P<name>abcdef)", "names are not taken"),
        (r"(?:[a-z]{900}){900}", "RE2 cannot read it|too big"),
        (r"[0-9]{990}[a-z]{990}[0-9]{990}[a-z]{990}[0-9]{990}[a-z]{990}", "too big"),
    ],
)
def test_an_expression_that_cannot_be_used_or_masks_everything_is_refused(expression: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        MaskingRule(name="own", expression=expression).full_clean()


def test_a_row_that_cannot_be_used_is_left_out_and_told(caplog: pytest.LogCaptureFixture) -> None:
    MaskingRule.objects.create(name="broken", expression="(")
    MaskingRule.objects.create(name="acme", expression="acme-[0-9]{8}")
    look()
    look()
    assert mask_text("password=hunter2 acme-12345678") == "password=[masked] [masked]"
    assert caplog.text.count("'broken'") == 1


def test_nothing_is_asked_per_line(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    look()
    with django_assert_num_queries(0):
        for _ in range(100):
            masking_rules.refresh()
            mask_text("password=hunter2")
    active.expire()
    with django_assert_num_queries(1):
        masking_rules.refresh()


def test_a_database_that_does_not_answer_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    MaskingRule.objects.create(name="acme", expression="acme-[0-9]{8}")
    look()

    def fail() -> None:
        raise DatabaseError

    monkeypatch.setattr(masking_rules, "load", fail)
    active.expire()
    masking_rules.refresh_or_go_on()
    assert mask_text("acme-12345678") == "[masked]"


@pytest.fixture
def admin(admin_user: User) -> Client:
    client = Client()
    client.force_login(admin_user, backend="safety.backends.PasswordBackend")
    return client


@pytest.fixture
def admin_user() -> User:
    return make_user("chief", is_staff=True, is_superuser=True)


def test_an_administrator_switches_and_adds_rules_which_hold_at_once(
    admin: Client, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    email = MaskingRule.objects.get(name="email")
    with django_capture_on_commit_callbacks(execute=True):
        answer = admin.post(f"/admin/safety/maskingrule/{email.pk}/change/", {})
    assert answer.status_code == 302
    assert mask_text("to bob@example.com") == "to bob@example.com"
    new = {"name": "acme", "enabled": "on", "expression": "acme-[0-9]{8}", "description": "badges"}
    with django_capture_on_commit_callbacks(execute=True):
        assert admin.post("/admin/safety/maskingrule/add/", new).status_code == 302
    assert mask_text("acme-12345678") == "[masked]"
    page = admin.get("/admin/safety/maskingrule/").content.decode()
    assert "badges" in page
    assert "AWS access key ids" in page
    audited = str(list(AuditRecord.objects.values_list("action", flat=True)))
    assert "masking_rule.change" in audited
    assert "masking_rule.create" in audited


def test_the_admin_says_what_is_wrong_with_an_expression(admin: Client) -> None:
    answer = admin.post("/admin/safety/maskingrule/add/", {"name": "all", "enabled": "on", "expression": ".*"})
    assert "so nearly every line" in answer.content.decode()
    assert not MaskingRule.objects.filter(name="all").exists()


def test_a_built_in_rule_is_switched_off_and_never_removed(admin: Client) -> None:
    rule = MaskingRule.objects.get(name="email")
    assert admin.post(f"/admin/safety/maskingrule/{rule.pk}/delete/", {"post": "yes"}).status_code == 403
    assert MaskingRule.objects.filter(name="email").exists()
