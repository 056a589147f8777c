from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.safety.sso.provider import ProviderProcess, configured


@pytest.fixture(scope="module")
def provider_process() -> Iterator[ProviderProcess]:
    with ProviderProcess() as process:
        yield process


@pytest.fixture
def provider(provider_process: ProviderProcess, settings: Any, db: None) -> ProviderProcess:
    """The provider, honest, and configured here."""
    provider_process.be_rough()
    settings.OIDC = configured(provider_process)
    return provider_process
