"""What somebody who is to approve a wave is shown: what became of the waves before it, and which machines come next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from django.db import connection

from executions.approval_points import Point
from executions.tally import Tally, word_of

MOST_RESULTS = 12  # machines of one step that are shown with what they did, those that failed first
LONGEST_LINE = 200

# How many targets of each wave are in which state. `upto`: the position of the last target of the wave.
_COUNTS = """
WITH asked AS (
    SELECT s.id, s.execution_id, s.key, s.waves FROM executions_step s
      JOIN unnest(%(executions)s::bigint[], %(steps)s::text[]) AS a(execution_id, key)
        ON a.execution_id = s.execution_id AND a.key = s.key AND s.kind = 'step'
), wave AS (
    SELECT asked.*, w.number, w.size, sum(w.size) OVER (PARTITION BY asked.id ORDER BY w.number) AS upto
      FROM asked CROSS JOIN LATERAL unnest(asked.waves) WITH ORDINALITY AS w(size, number)
)
SELECT wave.execution_id, wave.key, wave.number, t.status, t.error_code, count(*)
  FROM wave JOIN executions_steptarget t
    ON t.step_id = wave.id AND t.position > wave.upto - wave.size AND t.position <= wave.upto
 GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3
"""

# Of each step the targets that have ended, what did not go well before what did.
_RESULTS = """
SELECT execution_id, key, position, name, status, error_code, exit_code, error, stdout FROM (
    SELECT s.execution_id, s.key, t.position, t.name, t.status, t.error_code, t.exit_code, t.error,
           right(t.stdout, 2000) AS stdout,
           row_number() OVER (PARTITION BY s.id ORDER BY t.status = 'succeeded', t.position) AS place
      FROM unnest(%(executions)s::bigint[], %(steps)s::text[]) AS a(execution_id, key)
      JOIN executions_step s ON s.execution_id = a.execution_id AND s.key = a.key AND s.kind = 'step'
      JOIN executions_steptarget t ON t.step_id = s.id AND t.attempt > 0 AND t.status <> 'pending'
) placed WHERE place <= %(most)s ORDER BY execution_id, key, place
"""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one machine. `said`: its error, or the last line that it printed."""

    name: str
    wave: int
    status: str
    word: str
    exit_code: int | None
    said: str


@dataclass(slots=True)
class GateView:
    """A wave that waits. tallies: of the waves before it, in order; `next`: the names of its machines."""

    point: Point
    of: int
    tool: str
    description: str
    irreversible: bool
    on_failure: str
    total: int
    next: list[str]
    after: int
    tallies: list[Tally] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)

    @property
    def so_far(self) -> Tally:
        """What the waves before have come to, all together."""
        return Tally(*(sum(getattr(tally, name) for tally in self.tallies) for name in Tally.__slots__))

    @property
    def more_results(self) -> int:
        """How many machines have ended of which nothing is shown."""
        tally = self.so_far
        return max(0, tally.total - tally.skipped - tally.pending - len(self.results))


def targets_of(step: Mapping[str, Any], wave: int) -> list[Any]:
    """Return the targets of a wave of a stored step; all of them for wave 0."""
    targets: list[Any] = step["targets"]
    if not wave:
        return targets
    ends = [0, *accumulate(step["waves"])]
    return targets[ends[wave - 1] : ends[wave]]


def gates_of(
    asked: Iterable[tuple[int, Mapping[str, Any], Sequence[Point]]],
) -> dict[int, dict[Point, GateView]]:
    """Return what is shown of the waves that wait, by execution. `asked`: its id, its stored plan, what waits of it.

    Two queries, however many; none when no wave waits.
    """
    views: dict[int, dict[Point, GateView]] = {}
    by_step: dict[tuple[int, str], GateView] = {}
    for execution_id, document, points in asked:
        planned = {step["id"]: step for step in document["steps"]}
        for point in points:
            if point.wave:
                view = _view(planned[point.step], point)
                views.setdefault(execution_id, {})[point] = view
                by_step[execution_id, point.step] = view
    if by_step:
        executions, steps = zip(*by_step, strict=True)
        _read(by_step, {"executions": list(executions), "steps": list(steps), "most": MOST_RESULTS})
    return views


def _view(step: Mapping[str, Any], point: Point) -> GateView:
    sizes = step["waves"]
    return GateView(
        point=point,
        of=len(sizes),
        tool=step["tool"],
        description=step["description"],
        irreversible=step["irreversible"],
        on_failure=step["on_failure"],
        total=len(step["targets"]),
        next=[target["name"] for target in targets_of(step, point.wave)],
        after=sum(sizes[point.wave :]),
    )


def _read(by_step: Mapping[tuple[int, str], GateView], asked: Mapping[str, Any]) -> None:
    words: dict[tuple[int, str, int], Counter[str]] = {}
    with connection.cursor() as cursor:
        cursor.execute(_COUNTS, asked)
        for execution_id, key, number, status, code, count in cursor.fetchall():
            words.setdefault((execution_id, key, number), Counter())[word_of(status, code)] += count
        cursor.execute(_RESULTS, asked)
        results = cursor.fetchall()
    for (execution_id, key), view in by_step.items():
        before = range(1, view.point.wave)
        view.tallies = [Tally.counting(words.get((execution_id, key, number), Counter())) for number in before]
    for execution_id, key, position, name, status, code, exit_code, error, stdout in results:
        view = by_step[execution_id, key]
        ends = list(accumulate(tally.total for tally in view.tallies))
        wave = next((number for number, end in enumerate(ends, 1) if position <= end), view.point.wave)
        said = error or _last_line(stdout)
        view.results.append(Result(name, wave, status, word_of(status, code), exit_code, said))


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:LONGEST_LINE] if lines else ""
