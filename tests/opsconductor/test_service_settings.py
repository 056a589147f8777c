"""The settings of the two services: a bad value stops the start with a sentence that never repeats the token."""

from __future__ import annotations

from pathlib import Path

import pytest

from opsconductor.environment import ConfigError
from opsconductor.service_settings import service_settings

NAMES = ("ASSET_SERVICE_URL", "AUTOMATION_SERVICE_URL", "SERVICE_TOKEN", "SERVICE_CA_FILE", "SERVICE_PLAIN_HTTP")


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)


def put(monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)


def test_without_settings_there_is_no_service() -> None:
    assert service_settings() == (None, None)


def test_both_share_token_and_certificates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hunter2-token\n")
    (tmp_path / "ca.pem").write_text("x")
    put(
        monkeypatch,
        {
            "ASSET_SERVICE_URL": "https://gw.example.org/assets/", "AUTOMATION_SERVICE_URL": "http://127.0.0.1:3003",
            "SERVICE_TOKEN_FILE": str(tmp_path / "token"), "SERVICE_CA_FILE": str(tmp_path / "ca.pem"),
        },
    )  # fmt: skip
    asset, automation = service_settings()
    assert asset is not None
    assert automation is not None
    assert (asset.url, automation.url) == ("https://gw.example.org/assets", "http://127.0.0.1:3003")
    assert asset.token == automation.token == "hunter2-token"
    assert "hunter2" not in repr((asset, automation))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"ASSET_SERVICE_URL": "assets.example.org:3002"}, "ASSET_SERVICE_URL must be an address such as https://"),
        ({"ASSET_SERVICE_URL": "https://x:port"}, "ASSET_SERVICE_URL is no address"),
        ({"AUTOMATION_SERVICE_URL": "ftp://x"}, "AUTOMATION_SERVICE_URL must be an address"),
        ({"AUTOMATION_SERVICE_URL": "https://x/?a=b"}, "AUTOMATION_SERVICE_URL must be an address"),
        ({"AUTOMATION_SERVICE_URL": "https://hunter2@x/"}, "put the token into SERVICE_TOKEN"),
        ({"ASSET_SERVICE_URL": "http://assets:3002"}, "must begin with https://"),
        ({"SERVICE_TOKEN": "hunter2 two"}, "SERVICE_TOKEN holds a character"),
        ({"SERVICE_TOKEN": "hunter2\u00e9"}, "SERVICE_TOKEN holds a character"),
        ({"SERVICE_CA_FILE": "/no/such/file"}, "SERVICE_CA_FILE names /no/such/file"),
        ({"SERVICE_PLAIN_HTTP": "maybe"}, "SERVICE_PLAIN_HTTP must be true or false"),
    ],
)
def test_a_bad_value_stops_the_start_with_a_sentence(
    given: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, given)
    with pytest.raises(ConfigError, match=words) as refusal:
        service_settings()
    assert "hunter2" not in str(refusal.value)


def test_plain_http_to_another_machine_is_a_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, {"ASSET_SERVICE_URL": "http://assets:3002", "SERVICE_PLAIN_HTTP": "true"})
    asset, _ = service_settings()
    assert asset is not None
    assert asset.url == "http://assets:3002"
