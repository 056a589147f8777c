"""What a chaos run says at its end."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from tests.chaos.checker import DONE, Violation, readers_together
from tests.chaos.history import History

SHOWN = 40
# A run in which hardly anything could be done shows nothing.
SUCCEEDED_AT_LEAST = 0.2


@dataclass(slots=True)
class Report:
    seed: int
    history: History
    violations: list[Violation]
    injected: Counter[str]
    left_out: Counter[str]
    has_settled: bool
    submitter_failure: Exception | None
    asked_again: int
    cancelled: dict[int, str]
    full_disk_is: str
    refused_for_room: int
    stop_statuses: list[int | None]
    left_over: list[str]
    cluster_starts: int
    seconds: float

    @property
    def is_good(self) -> bool:
        return not list(self.problems())

    def problems(self) -> Iterator[str]:
        """Yield what was not as it should be, the broken promises first."""
        yield from map(str, self.violations)
        if self.submitter_failure is not None:
            yield f"the load could not be handed in: {self.submitter_failure!r}"
        if not self.has_settled:
            yield "it did not settle in time"
        for process in self.left_over:
            yield f"a process was left behind: {process}"
        if any(status != 0 for status in self.stop_statuses):
            yield f"the hosts, with nothing to do, did not stop in order: exit statuses {self.stop_statuses}"
        succeeded = self.outcomes()["succeeded"]
        if succeeded < SUCCEEDED_AT_LEAST * len(self.history.wanted):
            yield f"only {succeeded} of {len(self.history.wanted)} succeeded: the run shows too little"
        if not self.injected:
            yield "no fault was injected: the run shows nothing"

    def outcomes(self) -> Counter[str]:
        return Counter(story.status for story in self.history.stories.values())

    def text(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        total, history = self.injected.total(), self.history
        yield f"Seed {self.seed}: {len(history.wanted)} executions under {total} faults, in {self.seconds:.0f} s."
        yield ""
        names = sorted({*self.injected, *self.left_out})
        faults = [(name, [self.injected[name], self.left_out[name]]) for name in names]
        yield from table("fault", ["injected", "not possible"], faults)
        yield ""
        by_kind: dict[str, Counter[str]] = defaultdict(Counter)
        for story in history.stories.values():
            by_kind[story.wanted.kind][story.status] += 1
        by_kind["all"] = self.outcomes()
        statuses = sorted(by_kind["all"])
        outcomes = [(kind, [counts[status] for status in statuses]) for kind, counts in by_kind.items()]
        yield from table("executions", statuses, sorted(outcomes))
        yield ""
        yield from self._figures()
        yield ""
        problems = list(self.problems())
        if not problems:
            yield f"All promises were kept; {total} faults of {len(self.injected)} kinds were survived."
            return
        yield f"{len(problems)} PROBLEMS:"
        yield from (f"  {problem}" for problem in problems[:SHOWN])
        if len(problems) > SHOWN:
            yield f"  and {len(problems) - SHOWN} more"

    def _figures(self) -> Iterator[str]:
        history = self.history
        kept = sum(story.status in DONE for story in history.stories.values())
        left, locks = len(history.entries), len(history.locks)
        yield f"accounted for: {kept} of {len(history.wanted)}; left in the queue: {left}; locks left: {locks}"
        leases = Counter(execution_id for execution_id, _, new in history.leases if new is not None)
        again = sum(count > 1 for count in leases.values())
        yield f"leases given: {leases.total()}; executions that had more than one: {again}"
        runs = history.evidence.runs
        short = sum(run.code is None for run in runs)
        unknown = sum(target.status == "unknown" for story in history.stories.values() for target in story.targets)
        yield f"runs of steps: {len(runs)}; cut short: {short}; outcomes unknown: {unknown}"
        yield f"reads beside other reads of the same asset: {readers_together(history)}"
        yield f"cancels: {dict(Counter(self.cancelled.values()))}; submissions asked again: {self.asked_again}"
        yield f"full disk: {self.full_disk_is}; refused for want of room {self.refused_for_room} times"
        yield f"clusters started: {self.cluster_starts}"


def table(first: str, heads: list[str], rows: list[tuple[str, list[int]]]) -> Iterator[str]:
    """Yield the lines of a table with one name and numbers a row."""
    width = max([len(first), *(len(name) for name, _ in rows)], default=0)
    yield "  ".join([first.ljust(width), *heads])
    for name, numbers in rows:
        yield "  ".join(
            [name.ljust(width), *(str(n or "-").rjust(len(head)) for n, head in zip(numbers, heads, strict=True))]
        )
