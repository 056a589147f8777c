from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from executions.connectors.registry import Surroundings
from executions.connectors.ssh import SshConnector
from executions.connectors.warden import Warden


@pytest.fixture
def warden() -> Iterator[Warden]:
    warden = Warden()
    yield warden
    warden.close()


@pytest.fixture
async def connector(warden: Warden) -> AsyncIterator[SshConnector]:
    connector = SshConnector(Surroundings(warden))
    yield connector
    await connector.close()
