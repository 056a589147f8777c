from __future__ import annotations

from collections.abc import Iterator

import pytest

from executions.clients import pauses
from opsconductor.service_settings import ServiceSettings
from tests.contract.fake_services import FakeAssetService, FakeAutomationService, Service

TOKEN = "t0ken-of-the-services"


def settings_of(service: Service, name: str = "asset") -> ServiceSettings:
    return ServiceSettings(name, service.url, token=TOKEN)


@pytest.fixture
def asset_server() -> Iterator[FakeAssetService]:
    server = FakeAssetService()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def automation_server() -> Iterator[FakeAutomationService]:
    server = FakeAutomationService()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between tries that a test need not wait for."""
    monkeypatch.setattr(pauses, "FIRST_PAUSE_SECONDS", 0.002)
