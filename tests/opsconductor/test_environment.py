from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from opsconductor.environment import (
    ConfigError,
    env_bool,
    env_choice,
    env_float,
    env_int,
    env_labels,
    env_list,
    env_networks,
    env_str,
)


@pytest.fixture(autouse=True)
def _no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SETTING", raising=False)
    monkeypatch.delenv("SETTING_FILE", raising=False)


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SETTING", "  ")
    assert env_str("SETTING") is None
    assert env_str("SETTING", "default") == "default"
    assert env_int("SETTING", 7) == 7
    assert env_bool("SETTING", True) is True
    assert env_list("SETTING", ["a"]) == ["a"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("many", "SETTING must be a whole number, not 'many'."),
        ("1.5", "SETTING must be a whole number, not '1.5'."),
        ("0", "SETTING must be at least 1, not 0."),
        ("11", "SETTING must be at most 10, not 11."),
    ],
)
def test_a_bad_whole_number_is_refused_with_one_sentence(monkeypatch: pytest.MonkeyPatch, text: str, said: str) -> None:
    monkeypatch.setenv("SETTING", text)
    with pytest.raises(ConfigError) as refusal:
        env_int("SETTING", 5, minimum=1, maximum=10)
    assert str(refusal.value) == said


def test_whole_numbers_at_both_limits_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("1", "10"):
        monkeypatch.setenv("SETTING", text)
        assert env_int("SETTING", 5, minimum=1, maximum=10) == int(text)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "a", "1,5"])
def test_a_number_must_be_finite(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SETTING", text)
    with pytest.raises(ConfigError, match=r"^SETTING must be a (finite )?number, not "):
        env_float("SETTING", 1.0)


@pytest.mark.parametrize(("text", "value"), [("Yes", True), ("1", True), ("off", False), ("FALSE", False)])
def test_yes_and_no_have_several_words(monkeypatch: pytest.MonkeyPatch, text: str, value: bool) -> None:
    monkeypatch.setenv("SETTING", text)
    assert env_bool("SETTING", not value) is value


def test_another_word_than_yes_or_no_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SETTING", "maybe")
    with pytest.raises(ConfigError, match="SETTING must be true or false, not 'maybe'"):
        env_bool("SETTING", False)


def test_lists_lose_white_space_and_empty_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SETTING", " b, a ,,c,")
    assert env_list("SETTING") == ["b", "a", "c"]


def test_networks_take_both_families_and_bare_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SETTING", "127.0.0.0/8, fd00::/8,192.0.2.7")
    assert env_networks("SETTING") == [
        ipaddress.ip_network("127.0.0.0/8"),
        ipaddress.ip_network("fd00::/8"),
        ipaddress.ip_network("192.0.2.7/32"),
    ]


@pytest.mark.parametrize("text", ["10.0.0.1/8", "localhost", "300.0.0.0/8"])
def test_what_is_no_network_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SETTING", text)
    with pytest.raises(ConfigError, match="SETTING must list networks such as"):
        env_networks("SETTING")


def test_a_choice_is_exact_and_the_refusal_lists_the_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SETTING", "Vault")
    with pytest.raises(ConfigError, match="SETTING must be one of embedded, vault, not 'Vault'"):
        env_choice("SETTING", "embedded", ("embedded", "vault"))


def test_a_secret_may_stand_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("  kept as it is \r\n")
    monkeypatch.setenv("SETTING_FILE", str(file))
    assert env_str("SETTING", secret=True) == "  kept as it is "
    assert env_str("SETTING") is None


def test_a_secret_given_twice_is_refused_without_telling_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SETTING", "hunter2-value")
    monkeypatch.setenv("SETTING_FILE", str(tmp_path / "secret"))
    with pytest.raises(ConfigError, match="Both SETTING and SETTING_FILE are set") as refusal:
        env_str("SETTING", secret=True)
    assert "hunter2-value" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "said"), [(None, "cannot be read"), (b"\n", "which is empty"), (b"\xff\xfe\xfa", "not UTF-8 text")]
)
def test_a_file_that_holds_no_secret_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, said: str
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("SETTING_FILE", str(file))
    with pytest.raises(ConfigError, match=said):
        env_str("SETTING", secret=True)


def test_labels_are_names_that_plans_can_ask_for_or_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert env_labels("SETTING", ["*"]) == ["*"]
    monkeypatch.setenv("SETTING", "default, heavy-2,*")
    assert env_labels("SETTING") == ["default", "heavy-2", "*"]
    monkeypatch.setenv("SETTING", "default,Heavy")
    with pytest.raises(ConfigError, match="SETTING must list names such as eu-2, or \\*; 'Heavy' is none"):
        env_labels("SETTING")
