"""The tables that a run prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.measurement import Measurement, PeerRates


def figure(value: float | None) -> str:
    """A number with three or four digits that mean something; "-" for none."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"


def verdict(met: bool | None) -> str:
    return {True: "yes", False: "NO", None: "-"}[met]


def columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under a head, columns aligned: the first one left, numbers right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = []
    for row in (head, ["-" * width for width in widths], *rows):
        cells = [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def measurements_table(measurements: Sequence[Measurement]) -> str:
    """What, ours, reference, ratio, mark, met."""
    head = ("what", "unit", "ours", "reference", "ratio", "mark", "met", "reference is")
    rows = [
        (
            m.name,
            m.unit,
            figure(m.ours),
            figure(m.reference),
            "-" if m.ratio is None else f"{m.ratio:.2f}x",
            m.mark.text(higher_is_better=m.higher_is_better) or "-",
            verdict(m.met),
            m.reference_name or "-",
        )
        for m in measurements
    ]
    return columns(head, rows)


def peers_table(peers: Sequence[PeerRates]) -> str:
    """No-op jobs a second, one line a configuration."""
    head = ("peer (no-op jobs)", "jobs", "enqueue/s", "enqueue/s in bulk", "process/s")
    rows = [
        (
            p.name,
            f"{p.jobs:,}",
            figure(p.enqueue_per_second),
            figure(p.bulk_enqueue_per_second),
            figure(p.process_per_second),
        )
        if p.skipped is None
        else (p.name, "skipped", "-", "-", "-")
        for p in peers
    ]
    skipped = [f"{p.name}: not measured: {p.skipped}" for p in peers if p.skipped]
    return "\n".join([columns(head, rows), *skipped])


def machine_lines(machine: dict[str, Any]) -> str:
    """The machine, the server and the commit, in three lines."""
    server = machine["postgresql"]
    return "\n".join(
        [
            f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
            f"kernel {machine['kernel']}, Python {machine['python']}, load at start {machine['load_average_at_start']}",
            f"PostgreSQL {server['server_version']}, fsync {server['fsync']}, "
            f"synchronous_commit {server['synchronous_commit']}, shared_buffers {server['shared_buffers']}; "
            f"disk: fdatasync {machine['fdatasync_ms_p50']} ms (median), {machine['fdatasync_ms_p99']} ms (p99)",
            f"commit {machine['commit']}, {machine['date']}",
        ]
    )
