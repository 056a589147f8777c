"""`manage.py worker`: the worker processes of this host, supervised by django-q2."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import os
import signal
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from django.conf import settings
from django.core.management.base import BaseCommand

from queueing import fleet, worker
from queueing.connections import connect

if TYPE_CHECKING:
    from django_q.cluster import Cluster

LOOK_SECONDS = 0.2
TOUCH_SECONDS = 3600.0
# A cluster that ends by itself is started anew; one that never lives this long, so many times in a row, is not.
SHORT_LIFE_SECONDS = 10.0
SHORT_LIVES = 3
# Beyond the grace of its steps: what the workers need to stop commands and to write, then django-q2 to end.
STOP_SECONDS = 30.0
# What django-q2 needs to end when no process of its is at work any more.
EMPTY_STOP_SECONDS = 3.0


class Command(BaseCommand):
    requires_system_checks = []  # they load the pages and the API, which a worker has no use for
    help = (
        "Run this host's workers until SIGTERM or Ctrl-C; steps that run may end, the rest is handed back. It begins"
        " with WORKER_PROCESSES of them; `manage.py scale_workers` has up to WORKER_MAX_PROCESSES."
    )

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        return super().create_parser(
            prog_name,
            subcommand,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog="examples:\n  WORKER_PROCESSES=4 WORKER_CONCURRENCY=200 manage.py worker\n"
            "  WORKER_POOLS=default,heavy WORKER_REGIONS=eu-2 manage.py worker\n",
            **kwargs,
        )

    def handle(self, *args: Any, **options: Any) -> None:
        os.environ[fleet.CLUSTER_VARIABLE] = uuid.uuid4().hex
        # Imported here: the module reads the settings of the cluster when it is loaded.
        from django_q.cluster import Cluster

        die_with_parent()
        os.register_at_fork(before=_remember_parent, after_in_child=_die_with_remembered_parent)
        self.stdout.write(
            f"{settings.WORKER_PROCESSES} worker processes with {settings.WORKER_CONCURRENCY} slots each are starting."
        )
        self.stdout.flush()
        with tempfile.NamedTemporaryFile(prefix="opsconductor-at-work-") as at_work:
            os.environ[fleet.AT_WORK_VARIABLE] = at_work.name
            try:
                self._keep_running(Cluster, at_work.fileno())
            finally:
                with contextlib.suppress(psycopg.Error), contextlib.closing(connect("register")) as connection:
                    fleet.close_cluster(connection)
                for words in Path(at_work.name).parent.glob(f"{Path(at_work.name).name}.*"):
                    words.unlink(missing_ok=True)
        self.stdout.write("All workers have stopped.")

    def _keep_running(self, cluster_class: type[Cluster], at_work: int) -> None:
        short_lives = 0
        while not worker.stop_wanted.value:
            began = time.monotonic()
            cluster = cluster_class()  # takes the signals, so ours come after
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, _stop)
            _run(cluster, at_work)
            if worker.stop_wanted.value:
                break
            short_lives = short_lives + 1 if time.monotonic() - began < SHORT_LIFE_SECONDS else 0
            if short_lives >= SHORT_LIVES:
                self.stderr.write("The cluster ends by itself again and again; see the log.")
                sys.exit(1)
            self.stderr.write("The cluster ended by itself; it is started anew.")
            time.sleep(1)


def _stop(signum: int, frame: object) -> None:
    """Have everything end in order. Asking twice is asking once: the grace is bounded."""
    worker.stop_wanted.value = 1


def _run(cluster: Cluster, at_work: int) -> None:
    """Run a cluster until it ends by itself, or is told to and has ended in order or in time."""
    with contextlib.suppress(RuntimeError):  # its sentinel ended before it had begun
        cluster.start()
    sentinel = cluster.sentinel
    touched = time.monotonic()
    while sentinel.is_alive() and not worker.stop_wanted.value:
        sentinel.join(LOOK_SECONDS)
        if time.monotonic() - touched > TOUCH_SECONDS:
            touched = time.monotonic()
            os.utime(at_work)  # who tidies up temporary files takes the old ones
    if not sentinel.is_alive():
        return
    cluster.stop_event.set()
    latest = time.monotonic() + settings.SHUTDOWN_GRACE.total_seconds() + STOP_SECONDS
    while sentinel.is_alive() and time.monotonic() < latest:
        sentinel.join(LOOK_SECONDS)
        if _none_is(at_work):
            latest = min(latest, time.monotonic() + EMPTY_STOP_SECONDS)
    if sentinel.is_alive():
        # django-q2 waits for ever, or an hour, for a process that was killed at the wrong moment.
        sentinel.kill()
        sentinel.join()


def _none_is(at_work: int) -> bool:
    try:
        fcntl.flock(at_work, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(at_work, fcntl.LOCK_UN)
    return True


def die_with_parent() -> None:
    """On Linux: be told to end when the process that started this one is gone, however it went."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


_parent = 0


def _remember_parent() -> None:
    global _parent
    _parent = os.getpid()


def _die_with_remembered_parent() -> None:
    """In every process of the cluster: none lives on as an orphan when this command, or the sentinel, is killed."""
    die_with_parent()
    if os.getppid() != _parent:
        os._exit(1)
