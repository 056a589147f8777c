"""Measure OpsConductor beside its peers and print a table: python -m benchmarks [--only NAME] [--quick] [--no-peers].

Starts a PostgreSQL server of its own, puts the peers into a virtual environment of their own, runs everything one after
the other on this machine, and writes the figures to benchmarks/results/latest.json. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from benchmarks import machine, ours, table
from benchmarks.children import ChildFailed, Children
from benchmarks.database import embedded_server
from benchmarks.measurement import Measurement
from benchmarks.peer_runs import PEERS, run_peers
from benchmarks.run import Run

RESULTS = Path(__file__).parent / "results" / "latest.json"
# Above this load average the run did not have the machine to itself.
BUSY_LOAD = 0.5
CACHE = machine.ROOT / "var" / "bench"


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; `only` is a list of names, empty for all."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, epilog="example: python -m benchmarks --only queue --quick"
    )
    names = [*ours.MEASUREMENTS, *PEERS]
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        choices=names,
        metavar="NAME",
        help=f"one of {', '.join(names)}; may be repeated. Of ours, runs the peers that it is compared with, too",
    )
    parser.add_argument("--quick", action="store_true", help="smaller sizes: a look, not a figure to keep")
    parser.add_argument("--no-peers", action="store_true", help="ours alone; marks against a peer stay open")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the JSON goes (default: %(default)s)")
    return parser.parse_args(argv)


def wanted(only: Sequence[str], *, with_peers: bool) -> tuple[list[str], list[str]]:
    """Which of our measurements and which groups of peers to run, in their usual order."""
    mine = [name for name in ours.MEASUREMENTS if not only or name in only]
    needed = {peer for name in mine for peer in ours.MEASUREMENTS[name].peers}
    peers = [name for name in PEERS if with_peers and (not only or name in only or name in needed)]
    return mine, peers


def end_by_signal(number: int, frame: FrameType | None) -> None:
    """SIGTERM takes the way of Ctrl-C: through every `finally`."""
    raise KeyboardInterrupt


def measure(run: Run, mine: Sequence[str], peers: Sequence[str]) -> list[Measurement]:
    """Run ours, each right after the peers that it is compared with, then the other peers.

    One of ours that fails becomes a line without a figure, and the others go on.
    """
    measurements = []
    left = list(peers)
    for name in mine:
        run_peers(run, [peer for peer in left if peer in ours.MEASUREMENTS[name].peers])
        left = [peer for peer in left if peer not in ours.MEASUREMENTS[name].peers]
        run.say(f"ours: {name}")
        try:
            measurements += ours.MEASUREMENTS[name].measure(run)
        except ChildFailed as reason:
            run.say(f"  failed: {reason}")
            measurements.append(Measurement(name, "-", None, details={"failed": str(reason)}))
    run_peers(run, left)
    return measurements


def new_run_dir(cache: Path) -> Path:
    """An empty folder for this run; what runs that were killed left behind is removed."""
    for left in cache.glob("run-*"):
        if not psutil.pid_exists(int(left.name.removeprefix("run-"))):
            shutil.rmtree(left, ignore_errors=True)
    run_dir = cache / f"run-{os.getpid()}"
    shutil.rmtree(run_dir, ignore_errors=True)
    run_dir.mkdir(parents=True)
    return run_dir


def main(argv: Sequence[str] | None = None) -> int:
    args = arguments(argv)
    mine, peers = wanted(args.only, with_peers=not args.no_peers)
    signal.signal(signal.SIGTERM, end_by_signal)
    run_dir = new_run_dir(CACHE)
    logs = run_dir / "logs"
    logs.mkdir()
    try:
        with embedded_server(run_dir / "var") as server, Children(logs) as children:
            described = machine.describe(run_dir, server.url)
            run = Run(server, children, CACHE, run_dir, quick=args.quick, with_peers=not args.no_peers)
            with run.closing:
                measurements = measure(run, mine, peers)
    except KeyboardInterrupt:
        print("stopped: everything this run had started is ended, nothing was written", file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(run_dir, ignore_errors=True)
    show(measurements, run, described)
    write(args.output, measurements, run, described)
    return 1 if any("failed" in m.details for m in measurements) else 0


def show(measurements: Sequence[Measurement], run: Run, described: dict[str, Any]) -> None:
    """Print the tables."""
    if run.quick:
        print("A quick run: sizes are small, so the figures are a look and no more.\n")
    print(table.machine_lines(described))
    if described["load_average_at_start"] > BUSY_LOAD:
        print("The machine was busy with other things when the run began: these are no figures to keep.")
    if measurements:
        print("\n" + table.measurements_table(measurements))
    if run.peers:
        print("\n" + table.peers_table(list(run.peers.values())))


def write(output: Path, measurements: Sequence[Measurement], run: Run, described: dict[str, Any]) -> None:
    """Write everything as one JSON object: machine, quick, measurements, peers."""
    output.parent.mkdir(parents=True, exist_ok=True)
    results = {
        "machine": described,
        "quick": run.quick,
        "measurements": [m.as_dict() for m in measurements],
        "peers": [p.as_dict() for p in run.peers.values()],
    }
    output.write_text(json.dumps(results, indent=2) + "\n")
    print(f"\nwritten to {output}")


if __name__ == "__main__":
    sys.exit(main())
