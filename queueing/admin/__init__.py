"""Admin of the workers. Queue and locks are in executions/, since what waits there has names that only it knows."""

from queueing.admin import fleet, registers

__all__ = ["fleet", "registers"]
