"""Cancel: a step that runs on many targets at once is cancelled: until nothing runs, and until every host has said so.

All targets are the same machine, so each of their guards looks through the processes of all of them, on the cores that
the worker and PostgreSQL have, too. On machines of their own each looks through its own processes alone.
"""

from __future__ import annotations

from benchmarks.children import ChildFailed, wait_until
from benchmarks.measurement import Mark, Measurement
from benchmarks.ours.fan_out import APPROVAL_TARGETS, KEYS, submit_to_many
from benchmarks.ours.installation import installation
from benchmarks.run import Run

COMMAND = ("sleep", "98765")
RUNNING = "SELECT count(*) FROM executions_steptarget WHERE status = 'running'"
ENDED = "SELECT finished_at IS NOT NULL OR status = 'needs_attention' FROM executions_execution"
SECONDS = "SELECT max(extract(epoch FROM finished_at))::float FROM executions_steptarget"
CONFIRMED = "SELECT count(*) FILTER (WHERE stop_confirmed), count(*) FROM executions_steptarget"
TIMEOUT_SECONDS = 180.0


def measure(run: Run) -> list[Measurement]:
    """A worker with one process; all targets run at once when the cancel is asked for."""
    targets = run.size(500, 100)
    with (
        installation(run) as place,
        place.worker(WORKER_PROCESSES="1", FIELD_ENCRYPTION_KEYS=KEYS, APPROVAL_TARGETS=APPROVAL_TARGETS) as worker,
    ):
        submit_to_many(run, place, worker, targets, targets, *COMMAND)
        wait_until(
            lambda: place.query(RUNNING)[0] == targets,
            timeout_seconds=TIMEOUT_SECONDS,
            what=f"the command runs on {targets} targets",
            child=worker,
        )
        seen = place.result(
            "cancel_fan_out",
            "--targets",
            str(targets),
            "--",
            *COMMAND,
            FIELD_ENCRYPTION_KEYS=KEYS,
            APPROVAL_TARGETS=APPROVAL_TARGETS,
        )
        wait_until(
            lambda: place.query(ENDED)[0], timeout_seconds=TIMEOUT_SECONDS, what="the execution ended", child=worker
        )
        confirmed, all_targets = place.query(CONFIRMED)
        seconds = place.query(SECONDS)[0] - seen["asked_at"]
    if confirmed != all_targets:
        raise ChildFailed(f"{confirmed} of {all_targets} targets confirmed that nothing is left")
    details = {"targets": targets, "worker_processes": 1, "watched_in_real_time": seen["in_real_time"]}
    return [
        Measurement(
            f"cancel of one step on {targets} targets: no command runs any more",
            "s",
            seen["gone_seconds"],
            higher_is_better=False,
            mark=Mark(value=5),
            details=details,
        ),
        Measurement("the same: every target has confirmed it", "s", seconds, higher_is_better=False, details=details),
    ]
