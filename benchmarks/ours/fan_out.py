"""Fan-out: one command over SSH on many targets, beside ansible on the same sshd.

The targets are machines of the inventory, each with a connection of its own, and all the same OpenSSH server on
loopback: what it costs that server to let somebody in is paid by both sides alike.
"""

from __future__ import annotations

import contextlib
import os
import time
from base64 import b64encode

import psutil

from benchmarks.children import Child, ChildFailed, wait_until
from benchmarks.measurement import Mark, Measurement
from benchmarks.ours.installation import Installation, installation
from benchmarks.peer_runs import ANSIBLE
from benchmarks.run import Run

KEYS = b64encode(os.urandom(32)).decode()  # one of its programs encrypts what the other reads
APPROVAL_TARGETS = "1000"  # nobody has to agree to so many targets
CONCURRENT = 100
TIMEOUT_SECONDS = 180.0
# From the submit, so that the wait in the queue counts, too.
SECONDS = "SELECT status, extract(epoch FROM finished_at - created_at)::float FROM executions_execution"
WELL = "SELECT count(*) FROM executions_steptarget WHERE status = 'succeeded' AND stdout_bytes > 0 AND attempt = 1"


def measure(run: Run) -> list[Measurement]:
    """A worker with one process, idle when the plan is submitted; no connection is open to any target."""
    targets = run.size(500, 100)
    with (
        installation(run) as place,
        place.worker(WORKER_PROCESSES="1", FIELD_ENCRYPTION_KEYS=KEYS, APPROVAL_TARGETS=APPROVAL_TARGETS) as worker,
    ):
        submit_to_many(run, place, worker, targets, CONCURRENT, "uname", "-a")
        most = _largest_process_while_it_runs(place, worker)
        status, seconds = place.query(SECONDS)
        well = place.query(WELL)[0]
    if status != "succeeded" or well != targets:
        raise ChildFailed(f"the execution {status}, and {well} of {targets} targets succeeded at the first try")
    details = {"targets": targets, "seconds": seconds, "max_concurrent": CONCURRENT, "worker_processes": 1}
    return [
        Measurement(
            f"fan-out: one command over SSH on {targets} targets",
            "targets/s",
            targets / seconds,
            *run.reference(*ANSIBLE),
            mark=Mark(ratio=2),
            details=details,
        ),
        Measurement(
            "memory of the worker process meanwhile",
            "MiB",
            most / 2**20,
            higher_is_better=False,
            mark=Mark(value=300),
            details=details,
        ),
    ]


def submit_to_many(run: Run, place: Installation, worker: Child, targets: int, concurrent: int, *command: str) -> None:
    """Once the worker is there, submit one step with `command` on that many new machines, so many at once."""
    sshd = run.sshd
    wait_until(
        lambda: place.query("SELECT count(*) FROM queueing_worker WHERE last_beat_at IS NOT NULL")[0],
        timeout_seconds=60.0,
        what="the worker is there",
        child=worker,
    )
    place.result(
        "submit_fan_out",
        *("--targets", str(targets), "--concurrent", str(concurrent), "--port", str(sshd.port)),
        *("--user", sshd.username, "--key", str(sshd.folder / "client_key"), "--host-key", sshd.host_key),
        *("--", *command),
        FIELD_ENCRYPTION_KEYS=KEYS,
        APPROVAL_TARGETS=APPROVAL_TARGETS,
    )


def _largest_process_while_it_runs(place: Installation, worker: Child) -> int:
    """Wait for the end; return the most resident bytes that a process of the worker had."""
    most = 0
    cluster = psutil.Process(worker.pid)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while place.query("SELECT NOT bool_and(finished_at IS NOT NULL) FROM executions_execution")[0]:
        worker.require_running()
        if time.monotonic() > deadline:
            raise ChildFailed(f"the fan-out was not over within {TIMEOUT_SECONDS:.0f} s")
        for process in cluster.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                most = max(most, process.memory_info().rss)
        time.sleep(0.05)
    return most
