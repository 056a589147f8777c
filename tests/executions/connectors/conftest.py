from __future__ import annotations

from collections.abc import Iterator

import pytest

from executions.connectors.local import LocalConnector
from executions.connectors.warden import Warden


@pytest.fixture
def warden() -> Iterator[Warden]:
    warden = Warden()
    yield warden
    warden.close()


@pytest.fixture
def connector(warden: Warden) -> LocalConnector:
    return LocalConnector(warden, grace_seconds=5.0)
