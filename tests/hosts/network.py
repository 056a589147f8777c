"""A network of its own: a switch with PostgreSQL on it, and hosts that can be cut off from it.

Each host is a network namespace with a host name. Everything hangs on processes that end with this one, and the kernel
takes a namespace away with its last process, so nothing has a name that could be left behind.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from opsconductor.embedded_postgres import cluster as postgres
from opsconductor.embedded_postgres.installation import DATABASE, ROLE, Installation
from tests.installations import MANAGE, wait_until

TOOLS = ("ip", "unshare", "nsenter", "hostname")
NETWORK = "10.77.0"
SERVER = f"{NETWORK}.1"
PASSWORD = "the-servers-password"
NOBODY = "02:00:00:00:00:01"  # the address of no card: what is sent there vanishes


class NotPossible(Exception):
    """This machine does not let us make namespaces. The text says why."""


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=20)


class Namespace:
    """A network namespace with a host name of its own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--uts", "sh", "-c", f"hostname {name} && ip link set lo up && echo made && exec cat"],
            stdin=subprocess.PIPE,  # its end of file, when this process is gone, ends it
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stderr is not None
        if self._holder.stdout.readline() != b"made\n":
            raise NotPossible(self._holder.stderr.read().decode().strip())

    @property
    def pid(self) -> int:
        return self._holder.pid

    @property
    def enter(self) -> list[str]:
        """What to put before a command to run it here."""
        return ["nsenter", "--target", str(self.pid), "--net", "--uts", "--"]

    def run(self, *command: str) -> None:
        run(*self.enter, *command)

    def processes(self) -> set[int]:
        """Return the processes that run here, but for the one that holds the namespace."""
        here = os.readlink(f"/proc/{self.pid}/ns/net")
        found = set()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == self.pid:
                continue
            try:
                is_dead = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
                if not is_dead and os.readlink(entry / "ns" / "net") == here:
                    found.add(int(entry.name))
            except OSError:  # it has ended, or is one that not even root may look at
                continue
        return found

    def end(self) -> None:
        """Kill what runs here, and with it the namespace."""
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._holder.communicate(timeout=10)


def misdirect(place: Namespace, address: str, device: str) -> None:
    """Have what is sent from there to this address go to a card that does not exist."""
    place.run("ip", "neighbour", "replace", address, "lladdr", NOBODY, "dev", device, "nud", "permanent")


class Host(Namespace):
    """A machine on the switch, with its own `manage.py worker`; made by `Network.add`."""

    def __init__(self, name: str, number: int, switch: Namespace) -> None:
        super().__init__(name)
        self.address = f"{NETWORK}.{number}"
        self.worker: subprocess.Popen[bytes] | None = None
        self._switch = switch
        self._port = f"port{number}"
        switch.run("ip", "link", "add", self._port, "type", "veth", "peer", "name", "eth0", "netns", str(self.pid))
        switch.run("ip", "link", "set", self._port, "master", "switch", "up")
        self.run("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")

    def start(self, environment: Mapping[str, str]) -> None:
        """Start its worker with this environment and nothing else."""
        self.worker = subprocess.Popen(
            [*self.enter, sys.executable, MANAGE, "worker"], env=dict(environment), stdin=subprocess.DEVNULL, cwd="/"
        )

    def stop(self) -> int:
        """Stop its worker in order and return its exit status."""
        assert self.worker is not None
        self.worker.terminate()
        return self.worker.wait(timeout=60)

    # None of these sends a reset, or anything else, to anybody: that is what makes them hard.

    def unplug(self) -> None:
        """Nothing goes in, nothing comes out."""
        self._switch.run("ip", "link", "set", self._port, "down")

    def deafen(self) -> None:
        """What it sends arrives; what is sent to it vanishes."""
        misdirect(self._switch, self.address, "switch")

    def silence(self) -> None:
        """What is sent to it arrives; what it sends vanishes."""
        misdirect(self, SERVER, "eth0")

    def mend(self) -> None:
        """Undo all of these."""
        self._switch.run("ip", "link", "set", self._port, "up")
        for place, address, device in ((self._switch, self.address, "switch"), (self, SERVER, "eth0")):
            misdirect(place, address, device)  # so that there is something to delete
            place.run("ip", "neighbour", "del", address, "dev", device)

    def end(self) -> None:
        super().end()
        if self.worker is not None:
            self.worker.wait(timeout=10)


class Server(postgres.Cluster):
    """PostgreSQL on the switch: workers reach it over the network, the test by its Unix socket."""

    def __init__(self, folder: Path, switch: Namespace) -> None:
        super().__init__(Installation(folder), durable=False)
        self._switch = switch

    def _launch(self, program: list[str]) -> list[str]:
        return [*self._switch.enter, *super()._launch(program)]


class Network:
    """The switch, its PostgreSQL server, and its hosts. Raises NotPossible when this machine allows none."""

    def __init__(self, folder: Path) -> None:
        missing = [tool for tool in TOOLS if shutil.which(tool) is None]
        if missing:
            raise NotPossible(f"not installed: {', '.join(missing)}")
        self._switch = Namespace("switch")
        self._hosts: list[Host] = []
        self._postmaster: subprocess.Popen[bytes] | None = None
        try:
            try:
                self._switch.run("ip", "link", "add", "switch", "type", "bridge")
                self._switch.run("ip", "link", "add", "probe", "type", "veth", "peer", "name", "other-end")
                self._switch.run("ip", "link", "del", "probe")
            except subprocess.CalledProcessError as error:
                raise NotPossible(error.stderr.decode().strip()) from None
            self._switch.run("ip", "address", "add", f"{SERVER}/24", "dev", "switch")
            self._switch.run("ip", "link", "set", "switch", "up")
            self._start_server(folder)
        except BaseException:
            self.end()
            raise

    @property
    def url(self) -> str:
        """The DATABASE_URL of the hosts."""
        return f"postgresql://{ROLE}:{PASSWORD}@{SERVER}:5432/{DATABASE}"

    @property
    def socket_folder(self) -> str:
        return str(self._installation.socket_folder())

    def add(self, name: str) -> Host:
        host = Host(name, len(self._hosts) + 11, self._switch)
        self._hosts.append(host)
        return host

    def end(self) -> None:
        for host in self._hosts:
            host.end()
        if self._postmaster is not None:
            self._postmaster.send_signal(signal.SIGQUIT)
            self._postmaster.communicate(timeout=20)
        self._switch.end()

    def _start_server(self, folder: Path) -> None:
        self._installation = Installation(folder)
        self._installation.create_folders()
        cluster = Server(folder, self._switch)
        cluster.prepare()
        with open(self._installation.data / "pg_hba.conf", "a") as file:
            file.write(f"host all all {NETWORK}.0/24 scram-sha-256\n")
        settings, postgres.SETTINGS = postgres.SETTINGS, postgres.SETTINGS | {"listen_addresses": SERVER}
        try:
            self._postmaster = process = cluster.start()
        finally:
            postgres.SETTINGS = settings
        wait_until(lambda: cluster.is_ready(process), what="the server on the switch")
