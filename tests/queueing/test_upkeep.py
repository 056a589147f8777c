"""What keeps the queue up may fail; the worker goes on claiming."""

from __future__ import annotations

import psycopg
import pytest
from django.db import OperationalError

from queueing.worker import _do_its_duty


@pytest.mark.parametrize(
    "fault", [psycopg.errors.NotNullViolation("bad row"), OperationalError("gone"), ValueError("bug")]
)
def test_a_fault_in_upkeep_is_said_and_stops_nothing(fault: Exception, caplog: pytest.LogCaptureFixture) -> None:
    def duty() -> None:
        raise fault

    _do_its_duty(duty)
    assert "The queue could not be kept up" in caplog.text
