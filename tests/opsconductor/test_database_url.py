"""What becomes of DATABASE_URL."""

from __future__ import annotations

from pathlib import Path

import pytest

from opsconductor.database import CLIENT_SIDE, PREPARE_AFTER, SERVER_SIDE, database_settings
from queueing.connections import parameters

URL = "postgresql://a:b@db.example:6543/ops"


def test_a_host_that_is_gone_is_noticed_unless_the_url_says_otherwise(tmp_path: Path) -> None:
    """That it is noticed, tests/hosts shows with real networks."""
    plain = database_settings(URL, tmp_path, pooled=False)["OPTIONS"]
    assert plain == {**CLIENT_SIDE, "options": SERVER_SIDE, "prepare_threshold": PREPARE_AFTER}
    chosen = database_settings(f"{URL}?connect_timeout=30&sslmode=require", tmp_path, pooled=False)["OPTIONS"]
    assert chosen == {**plain, "connect_timeout": "30", "sslmode": "require"}


def test_options_for_the_server_reach_workers_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers add their own; a schema that the URL names must not get lost on the way."""
    found = database_settings(f"{URL}?options=-csearch_path%3Dops", tmp_path, pooled=False)
    monkeypatch.setattr("django.conf.settings.DATABASES", {"default": found})
    words = parameters("heart")["options"]
    assert words.startswith(f"{SERVER_SIDE} -csearch_path=ops ")
    assert "statement_timeout" in words
