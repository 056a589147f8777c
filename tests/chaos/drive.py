"""One chaos run, from an empty database to the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from django.contrib.auth import get_user_model
from django.core.management import call_command

from executions.models import Asset
from safety.models import Tenant, User
from safety.secrets.keeping import store_secret
from tests.chaos import wall_clock
from tests.chaos.checker import check
from tests.chaos.device import Device
from tests.chaos.evidence import Evidence
from tests.chaos.faults import Injector, schedule
from tests.chaos.history import read_history
from tests.chaos.hosts import Host, words_of
from tests.chaos.load import Load
from tests.chaos.machines import SECRET, Machines, can_be_made
from tests.chaos.outside import Outside
from tests.chaos.place import Place
from tests.chaos.relay import Relay
from tests.chaos.report import Report
from tests.chaos.submitter import UNFINISHED, Canceller, Submitter

TURN_SECONDS = 0.05
PROGRESS_SECONDS = 5.0
STOP_SECONDS = 60.0
ENTRIES = "SELECT count(*) FROM queueing_queueentry"


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is made of. Faults come for at most `minutes`, and end when most of the load has ended.

    pause_seconds   mean time between two faults
    settle_seconds  how long the installation may, when the faults are over, end nothing of what it took in
    """

    seed: int
    executions: int
    minutes: float
    hosts: int = 2
    pause_seconds: float = 1.0
    lease_seconds: int = 4
    settle_seconds: float = 180.0


def drive(options: Options, place: Place, folder: Path, settings: dict[str, str], say: Callable[[str], None]) -> Report:
    """Run the load under the faults, let the installation settle, and check what happened. Django is set up."""
    adopt_orphans()
    call_command("migrate", verbosity=0, skip_checks=True)
    place.install_witness()
    place.make_small_disk(64 + options.executions // 40)
    marks = folder / "marks"
    marks.mkdir()
    outside = Outside()
    machines = Machines(folder, outside) if can_be_made() else None
    try:
        load = Load(
            options.seed, options.executions, marks, Device(outside, marks).port, has_machines=machines is not None
        )
        by = _people_and_assets(load, machines)
        library = wall_clock.build(folder)
        hosts = [
            Host(
                name,
                folder,
                relay := Relay(outside, partial(asyncio.open_unix_connection, place.socket)),
                wall_clock.WallClock(library, folder / f"{name}.clock") if library else None,
                {
                    **settings,
                    "DATABASE_URL": place.relayed_url(relay.port),
                    "LEASE_SECONDS": str(options.lease_seconds),
                    "WORKER_PROCESSES": "2",
                    "WORKER_CONCURRENCY": "12",
                    "WORKER_SHIFT_SECONDS": "20",  # so that processes are also changed in order
                    "SHUTDOWN_GRACE_SECONDS": "2",
                    "HTTP_ALLOWED_NETWORKS": "127.0.0.0/8",
                    "LOG_LEVEL": "WARNING",
                },
            )
            for name in (f"host-{number}" for number in range(options.hosts))
        ]
        with _stopped_at_the_end(hosts):
            return _Run(options, place, hosts, machines, load, by, say, marks).run()
    finally:
        if machines is not None:
            machines.close()
        outside.close()


class _Run:
    def __init__(
        self,
        options: Options,
        place: Place,
        hosts: list[Host],
        machines: Machines | None,
        load: Load,
        by: User,
        say: Callable[[str], None],
        marks: Path,
    ) -> None:
        self._options = options
        self._place = place
        self._hosts = hosts
        self._say = say
        self._marks = marks
        self._wanted = load.make()
        self._stopping = threading.Event()
        self._submitter = Submitter(
            options.seed, self._wanted, by, min(600, max(60, options.executions // 3)), self._stopping
        )
        self._canceller = Canceller(self._submitter, Evidence(marks), by, self._stopping)
        self._injector = Injector(
            place,
            hosts,
            machines,
            schedule(
                options.seed,
                options.hosts,
                options.pause_seconds,
                options.lease_seconds,
                has_machines=machines is not None,
            ),
        )
        self._began = time.monotonic()
        self._said_at = 0.0

    def run(self) -> Report:
        people = [
            threading.Thread(target=one.run, name=type(one).__name__) for one in (self._submitter, self._canceller)
        ]
        for host in self._hosts:
            host.keep_up()
        for thread in people:
            thread.start()
        try:
            self._faults()
            self._injector.stop_all()
            self._say("The faults are over; the installation settles.")
            has_settled = self._settle()
        finally:
            self._injector.stop_all()
            self._stopping.set()
            for thread in people:
                thread.join(timeout=60)
        statuses = self._stop_hosts()
        left = [f"{process.pid}: {words_of(process)}" for process in _left_over()]
        with self._place.connection() as connection:
            history = read_history(connection, self._wanted, self._submitter.accepted, self._marks)
        return Report(
            seed=self._options.seed,
            history=history,
            violations=check(history),
            injected=self._injector.injected,
            left_out=self._injector.left_out,
            has_settled=has_settled,
            submitter_failure=self._submitter.failure,
            asked_again=self._submitter.asked_again,
            cancelled=dict(self._canceller.answers),
            full_disk_is=self._place.full_disk_is,
            refused_for_room=self._place.refused_for_room(),
            stop_statuses=statuses,
            left_over=left,
            cluster_starts=sum(host.starts for host in self._hosts),
            seconds=time.monotonic() - self._began,
        )

    def _faults(self) -> None:
        """Until most of the load has ended, or the time is up."""
        until = time.monotonic() + self._options.minutes * 60
        looked_at, unfinished = 0.0, self._options.executions
        while time.monotonic() < until and self._submitter.failure is None:
            now = time.monotonic()
            self._injector.turn(now)
            self._keep_up()
            if now - looked_at > 1:
                looked_at, unfinished = now, self._count(UNFINISHED)
                if self._submitter.is_done and unfinished <= self._options.executions * 0.03:
                    return
            self._progress(unfinished)
            time.sleep(TURN_SECONDS)

    def _settle(self) -> bool:
        """Wait for the end of everything; return whether it came, never with nothing ended for the settle time."""
        until, before = time.monotonic() + self._options.settle_seconds, 0
        while time.monotonic() < until and self._submitter.failure is None:
            self._keep_up()
            unfinished = self._count(UNFINISHED)
            if not self._submitter.is_done or unfinished < before:
                until = time.monotonic() + self._options.settle_seconds
            before = unfinished
            if self._submitter.is_done and unfinished == 0 and self._count(ENTRIES) == 0:
                return True
            self._progress(unfinished)
            time.sleep(0.2)
        return False

    def _keep_up(self) -> None:
        for host in self._hosts:
            host.keep_up()
        reap_orphans({host.pid for host in self._hosts if host.starts})

    def _count(self, statement: str) -> int:
        count: int = self._place.ask(statement)[0][0]
        return count

    def _progress(self, unfinished: int) -> None:
        now = time.monotonic()
        if now - self._said_at < PROGRESS_SECONDS:
            return
        self._said_at = now
        taken_in = len(self._submitter.accepted)
        under_way = ", ".join(one.name for one in self._injector.under_way) or "none"
        self._say(
            f"[{now - self._began:5.0f} s] {taken_in} of {len(self._wanted)} taken in, {taken_in - unfinished} ended;"
            f" {self._injector.injected.total()} faults, under way: {under_way}"
        )

    def _stop_hosts(self) -> list[int | None]:
        for host in self._hosts:
            host.tell_to_stop()
        return [host.stopped(STOP_SECONDS) for host in self._hosts]


def _people_and_assets(load: Load, machines: Machines | None) -> User:
    tenant = Tenant.objects.get(name="default")
    by: User = get_user_model().objects.create_superuser("chaos", password="not-a-password", tenant=tenant)
    here: dict[str, Any] = {"connection": "local"}
    there: dict[str, Any] = {}
    if machines is not None:
        store_secret(tenant, SECRET, machines.private_key, by=by)
        there = machines.asset_fields
    for name in load.assets:
        how = there if name in load.machines else here
        Asset.objects.create(tenant=tenant, name=name, environment="development", **how)
    return by


# -- processes -------------------------------------------------------------------------------------------------------


def adopt_orphans() -> None:
    """On Linux: processes whose parent was killed become this one's children, so that none gets out of sight."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER


def reap_orphans(known: set[int]) -> None:
    """Take note of the end of adopted processes. Those in `known` have somebody who waits for them."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess, ChildProcessError):
            if child.pid not in known and child.status() == psutil.STATUS_ZOMBIE and not _is_server(child):
                os.waitpid(child.pid, os.WNOHANG)


def _is_server(process: psutil.Process) -> bool:
    words = words_of(process)
    return "embedded_postgres.keeper" in words or words.split(" ")[0].endswith("postgres") or _is_sshd(process)


def _is_sshd(process: psutil.Process) -> bool:
    """The server itself, not one of its connections."""
    return "-D -e -f" in words_of(process)


def _left_over() -> list[psutil.Process]:
    """What still runs of the hosts and of their steps, a moment after the hosts have stopped."""
    until = time.monotonic() + 5
    while True:
        reap_orphans(set())
        servers = {child.pid for child in psutil.Process().children() if _is_server(child)}
        left = [
            process
            for process in psutil.Process().children(recursive=True)
            if process.pid not in servers
            # What a server of ours started belongs to it; what a machine's started has to be gone.
            and not any(parent.pid in servers and not _is_sshd(parent) for parent in _parents(process))
        ]
        if not left or time.monotonic() > until:
            return left
        time.sleep(0.1)


def _parents(process: psutil.Process) -> list[psutil.Process]:
    try:
        parents: list[psutil.Process] = process.parents()
    except psutil.NoSuchProcess:
        return []
    return parents


@contextlib.contextmanager
def _stopped_at_the_end(hosts: list[Host]) -> Iterator[None]:
    """Whatever happens, nothing of the hosts lives on."""
    try:
        yield
    finally:
        for host in hosts:
            if host.starts and host.stopped(0) is None:
                host.kill_everything()
        for process in _left_over():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        reap_orphans(set())
