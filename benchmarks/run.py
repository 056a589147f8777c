"""What the measurements of one run share: sizes, server, child processes, the peers and what they did."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from benchmarks.children import Children
from benchmarks.database import Server
from benchmarks.measurement import PeerRates
from benchmarks.peer_environment import peer_python
from tests.sshd import Sshd


@dataclass
class Run:
    """One run of the benchmark. `cache_dir` outlives it, `run_dir` does not."""

    server: Server
    children: Children
    cache_dir: Path
    run_dir: Path
    quick: bool
    with_peers: bool
    template_ready: bool = False
    peers: dict[str, PeerRates] = field(default_factory=dict)
    closing: ExitStack = field(default_factory=ExitStack)

    @cached_property
    def peer_python(self) -> Path:
        """The Python that has the peers; installs them the first time (ChildFailed when that cannot be done)."""
        return peer_python(self.children, self.cache_dir)

    @cached_property
    def sshd(self) -> Sshd:
        """An SSH server on loopback, for as long as the run lasts. Raises FileNotFoundError when there is none here."""
        server = Sshd(self.run_dir / "sshd")
        self.closing.callback(server.close)
        return server

    def size(self, full: int, quick: int) -> int:
        """The size of a measurement, by the kind of run."""
        return quick if self.quick else full

    def reference(self, *names: str) -> tuple[float | None, str]:
        """Jobs a second of the fastest of these configurations that ran, and its name; (None, "") when none did."""
        rates = [(self.peers[name].process_per_second or 0.0, name) for name in names if name in self.peers]
        fastest, name = max(rates, default=(0.0, ""))
        return (fastest, name) if fastest else (None, "")

    def say(self, words: str) -> None:
        """Tell how far the run is, on standard error: standard output is for the table."""
        print(words, file=sys.stderr, flush=True)


Peer = Callable[[Run], PeerRates]
