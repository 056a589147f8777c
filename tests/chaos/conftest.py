"""The stage on which actors play: the tests' own database, with the witness in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from executions.models import Asset
from safety.models import Tenant, User
from tests.chaos.actors import Stage, install, uninstall


@pytest.fixture
def stage(transactional_db: None, tmp_path: Path) -> Iterator[Stage]:
    tenant = Tenant.objects.get(name="default")
    Asset.objects.create(tenant=tenant, name="one", connection="local", environment="development")
    marks = tmp_path / "marks"
    marks.mkdir()
    by = User.objects.create_superuser("chaos", password="not-a-password", tenant=tenant)
    made = Stage(marks, by)
    install(made)
    yield made
    uninstall(made)
