"""Who asks, and a worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from safety.models import User
from tests.executions.services.requests import FakeWorker, make_user


@pytest.fixture
def alice(db: None) -> User:
    """Asks for executions, and may do so on every machine of her tenant."""
    return make_user("alice", "admin")


@pytest.fixture
def worker(db: None) -> Iterator[FakeWorker]:
    """For tests that commit what they do (marked `several`)."""
    worker = FakeWorker()
    yield worker
    worker.close()
