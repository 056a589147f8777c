"""set_secret, delete_secret, list_secrets, rotate_secrets."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from safety.models import Secret, Tenant
from safety.secrets import SecretUnavailable, configured_store
from tests.installations import MANAGE

OLD, NEW = b"o" * 32, b"n" * 32


@pytest.fixture(autouse=True)
def store_of_now() -> Iterator[None]:
    configured_store.cache_clear()
    yield
    configured_store.cache_clear()


def with_keys(settings: Any, *keys: bytes) -> None:
    settings.FIELD_ENCRYPTION_KEYS = keys
    configured_store.cache_clear()


def stored(path: str, tenant: str = "default") -> str:
    answer = configured_store().read(Tenant.objects.get(name=tenant), [path])[path]
    assert not isinstance(answer, SecretUnavailable), answer
    return answer.value(None)


def set_secret(monkeypatch: pytest.MonkeyPatch, value: bytes, *arguments: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(value)))
    call_command("set_secret", *arguments)


@pytest.mark.django_db(transaction=True)
def test_a_process_stores_what_it_reads_from_standard_input(process_environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, MANAGE, "set_secret", "db/orders"],
        input=b"sw0rdfish\n", env=process_environment, capture_output=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"Stored version 1 of db/orders" in done.stdout
    assert b"sw0rd" not in done.stdout + done.stderr
    assert stored("db/orders") == "sw0rdfish"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("given", "kept"), [(b"a\n", "a"), (b"a\r\n", "a"), (b"a\n\n", "a\n"), (b" a\nb ", " a\nb "), (b"\n\n", "\n")]
)
def test_one_line_end_and_nothing_else_is_dropped(monkeypatch: pytest.MonkeyPatch, given: bytes, kept: str) -> None:
    set_secret(monkeypatch, given, "a")
    assert stored("a") == kept


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("value", "arguments", "words"),
    [
        (b"", ["a"], "empty"),
        (b"\n", ["a"], "empty"),
        (b"\xff\xfe", ["a"], "not UTF-8"),
        (b"x" * 70_000, ["a"], "at most 65,536"),
        (b"x", ["../a"], "made of letters"),
        (b"x", ["a", "--tenant", "nobody"], "no tenant 'nobody'"),
    ],
)
def test_what_cannot_be_stored_is_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, value: bytes, arguments: list[str], words: str
) -> None:
    with pytest.raises(CommandError, match=words):
        set_secret(monkeypatch, value, *arguments)
    assert not Secret.objects.exists()


@pytest.mark.django_db
def test_each_tenant_has_its_own(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Tenant.objects.create(name="acme")
    set_secret(monkeypatch, b"ours", "db/orders")
    set_secret(monkeypatch, b"theirs", "db/orders", "--tenant", "acme")
    assert (stored("db/orders"), stored("db/orders", "acme")) == ("ours", "theirs")
    capsys.readouterr()
    call_command("list_secrets")
    assert capsys.readouterr().out == "db/orders\n"


@pytest.mark.django_db
def test_a_removed_secret_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    set_secret(monkeypatch, b"x", "db/orders")
    with pytest.raises(CommandError, match="--yes"):
        call_command("delete_secret", "db/orders")
    assert Secret.objects.count() == 1
    call_command("delete_secret", "db/orders", "--yes")
    assert Secret.objects.count() == 0
    with pytest.raises(CommandError, match="no secret db/orders"):
        call_command("delete_secret", "db/orders", "--yes")


@pytest.mark.django_db
def test_keys_are_changed_by_setting_two_and_rotating(
    monkeypatch: pytest.MonkeyPatch, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with_keys(settings, OLD)
    set_secret(monkeypatch, b"value", "a")
    with_keys(settings, NEW)
    with pytest.raises(CommandError, match=r"opens 1 of them[\s\S]*default: a"):
        call_command("rotate_secrets")
    with_keys(settings, NEW, OLD)
    capsys.readouterr()
    call_command("rotate_secrets", "--dry-run")
    call_command("rotate_secrets")
    assert capsys.readouterr().out.startswith("1 would be encrypted anew with the first key.\n1 encrypted")
    with_keys(settings, NEW)
    assert stored("a") == "value"


@pytest.mark.django_db
def test_without_a_key_nothing_is_stored_and_it_is_said_what_to_set(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    with_keys(settings)
    with pytest.raises(CommandError, match="FIELD_ENCRYPTION_KEYS"):
        set_secret(monkeypatch, b"x", "a")
    assert not Secret.objects.exists()
