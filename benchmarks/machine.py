"""What the figures were measured on: processor, memory, kernel, disk, PostgreSQL, commit, time."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import time
from pathlib import Path
from statistics import quantiles
from typing import Any

import psutil
import psycopg

ROOT = Path(__file__).resolve().parent.parent


def percentile(values: list[float], percent: int) -> float:
    """The given percentile (1 to 99) of at least one value."""
    if len(values) == 1:
        return values[0]
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def fdatasync_milliseconds(directory: Path, writes: int = 300) -> tuple[float, float]:
    """Append 8 KiB and fdatasync, again and again, in `directory`: the median and the 99th percentile, in ms.

    This is what a commit waits for at least, so it says how kind the disk is to every durable figure.
    """
    path = directory / "fdatasync.probe"
    times = []
    # Without fdatasync (macOS), fsync is the nearest thing that there is.
    sync = getattr(os, "fdatasync", os.fsync)
    with path.open("wb", buffering=0) as probe:
        for _ in range(writes):
            probe.write(b"x" * 8192)
            began = time.perf_counter()
            sync(probe.fileno())
            times.append((time.perf_counter() - began) * 1000)
    path.unlink()
    return percentile(times, 50), percentile(times, 99)


def processor() -> str:
    """The processor's model name, as far as the system tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def commit() -> str:
    """The commit measured, with "+changes" when the working tree differs from it; "unknown" outside a checkout."""
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{head}+changes" if changed else head


def describe(run_dir: Path, database_url: str) -> dict[str, Any]:
    """All of the above, with the PostgreSQL settings that decide what durable means, as one JSON object."""
    median, worst = fdatasync_milliseconds(run_dir)
    with psycopg.connect(database_url) as connection:
        settings = {
            name: connection.execute(f"SHOW {name}").fetchone()[0]  # type: ignore[index]
            for name in ("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers")
        }
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "fdatasync_ms_p50": round(median, 3),
        "fdatasync_ms_p99": round(worst, 3),
        "load_average_at_start": round(os.getloadavg()[0], 2),
        "postgresql": settings,
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
