"""The project's settings with an engine that misbehaves on demand, for workers that a test starts."""

from opsconductor.settings import *  # noqa: F403

QUEUE_RUNNER = "tests.executions.engine.rough_engine.RoughEngine"
