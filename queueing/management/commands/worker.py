"""`manage.py worker`: the worker processes of this host, supervised by django-q2."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import signal
import sys
import threading
import uuid
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from queueing import fleet, worker


class Command(BaseCommand):
    requires_system_checks = []  # they load the pages and the API, which a worker has no use for
    help = "Run this host's workers until SIGTERM or Ctrl-C; steps that run may end, the rest is handed back."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        return super().create_parser(
            prog_name,
            subcommand,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog="example:\n  WORKER_PROCESSES=4 WORKER_CONCURRENCY=200 manage.py worker\n",
            **kwargs,
        )

    def handle(self, *args: Any, **options: Any) -> None:
        os.environ[fleet.CLUSTER_VARIABLE] = uuid.uuid4().hex
        # Imported here: the module reads the settings of the cluster when it is loaded, and takes the signals.
        from django_q.cluster import Cluster

        _die_with_parent()
        self.stdout.write(
            f"{settings.WORKER_PROCESSES} worker processes with {settings.WORKER_CONCURRENCY} slots each are starting."
        )
        cluster = Cluster()
        started = threading.Event()

        def stop(signum: int, frame: object) -> None:
            worker.stop_event.set()
            if started.is_set():
                raise SystemExit(0)

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        cluster.start()
        started.set()
        with contextlib.suppress(SystemExit, KeyboardInterrupt):
            while cluster.sentinel is not None and cluster.sentinel.is_alive() and not worker.stop_event.is_set():
                cluster.sentinel.join(0.5)
        died = not worker.stop_event.is_set()
        worker.stop_event.set()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        cluster.stop()
        if died:
            self.stderr.write("The cluster ended by itself; see the log.")
            sys.exit(1)
        self.stdout.write("All workers have stopped.")


def _die_with_parent() -> None:
    """On Linux: end in order when the process that started this one is gone, however it went."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
