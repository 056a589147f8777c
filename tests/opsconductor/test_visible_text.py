"""A text that cannot be seen as it is does not mislead whoever reads it on a page."""

from __future__ import annotations

import pytest
from django.test import Client

from opsconductor.visible_text import visible
from tests.executions.live.rows import make_execution, make_user


@pytest.mark.parametrize(
    "character",
    ["\u202e", "\u202a", "\u2066", "\u2069", "\u200b", "\u200f", "\u061c", "\u2060", "\ufeff", "\u0085", "\U000e0041"],
)
def test_a_character_that_cannot_be_seen_is_shown_as_its_number(character: str) -> None:
    shown = visible(f"a{character}b".encode()).decode()
    assert shown == f"a[U+{ord(character):04X}]b"


@pytest.mark.parametrize("text", ["größe ✓ نص", "👩\u200d🚒", "\u0646\u200c\u0627", "tab\tand\nline", "→ “quoted” – …"])
def test_what_can_be_seen_stays_as_it_is(text: str) -> None:
    assert visible(text.encode()) == text.encode()


@pytest.mark.django_db
def test_a_title_that_turns_the_reading_around_is_shown_as_it_is_on_the_pages_of_people_and_of_operators() -> None:
    user = make_user("chief", is_staff=True, is_superuser=True)
    execution = make_execution(user)
    execution.title = "Restart \u202etxt.exe"
    execution.save(update_fields=["title"])
    client = Client()
    client.force_login(user, backend="safety.backends.PasswordBackend")
    for path in (f"/executions/{execution.pk}/", "/executions/", f"/admin/executions/execution/{execution.pk}/change/"):
        answer = client.get(path)
        assert answer.status_code == 200, path
        page = answer.content.decode()
        assert "Restart [U+202E]txt.exe" in page, path
        assert "\u202e" not in page, path
        assert int(answer.headers["Content-Length"]) == len(answer.content)
