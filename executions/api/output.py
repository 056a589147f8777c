"""Output by step and target: which rows a request means, and the pieces after a cursor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import connection

from executions.api.problems import ApiProblem, shortened
from executions.api.reading import as_id
from executions.live.feed import MAX_TEXT
from executions.models import StepTarget

# Cut by size before any text is read (octet_length needs not unpack it); the first piece is kept whatever its size.
# Nothing is read of what retention is just removing (see live/feed.py).
# By the target's own index when few are wanted, by the execution's key otherwise: the planner chooses.
PIECES = """
WITH page AS MATERIALIZED (
    SELECT seq, octet_length(text) AS size FROM executions_outputchunk
     WHERE execution_id = %(execution)s AND seq > %(after)s {of_targets} {of_streams}
     ORDER BY seq LIMIT %(limit)s
), measured AS (
    SELECT seq, row_number() OVER (ORDER BY seq) AS position, sum(size) OVER (ORDER BY seq) AS total,
           count(*) OVER () AS found FROM page
     WHERE NOT EXISTS (SELECT FROM executions_execution WHERE id = %(execution)s AND events_pruned_at IS NOT NULL)
)
SELECT c.seq, c.at, c.stream, c.text, c.step_target_id, m.found
  FROM measured m JOIN executions_outputchunk c ON c.execution_id = %(execution)s AND c.seq = m.seq
 WHERE m.position = 1 OR m.total <= %(text)s
 ORDER BY m.seq
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The rows whose output is asked for. `targets` None: all of the execution, without a list of them."""

    execution_id: int
    names: dict[int, tuple[str, str]]  # step target -> (step's id in the plan, target's name)
    targets: list[int] | None
    streams: list[str]

    @property
    def several(self) -> bool:
        return len(self.names) > 1


def wanted_of(execution_id: int, step: str | None, target: str | None, streams: list[str]) -> Wanted:
    """Return what `step` (its id in the plan, else its row) and `target` (name, else row) mean.

    Raises ApiProblem: unknown_step when nothing fits.
    """
    rows = list(
        StepTarget.objects.filter(execution_id=execution_id)
        .order_by("step__position", "position")
        .values_list("pk", "name", "step_id", "step__key")
    )
    chosen = rows
    if step is not None:
        chosen = [row for row in chosen if row[3] == step] or [row for row in chosen if row[2] == as_id(step)]
        if not chosen:
            raise ApiProblem("unknown_step", f"The execution has no step {shortened(step)}.")
    if target is not None:
        chosen = [row for row in chosen if row[1] == target] or [row for row in chosen if row[0] == as_id(target)]
        if not chosen:
            raise ApiProblem("unknown_step", f"No step that was asked for has the target {shortened(target)}.")
    names = {row[0]: (row[3], row[1]) for row in chosen}
    return Wanted(execution_id, names, None if len(chosen) == len(rows) else list(names), streams)


def read_output(wanted: Wanted, after: int, limit: int) -> tuple[list[dict[str, Any]], bool]:
    """Return pieces with `seq` > `after`, at most `limit` of them and MAX_TEXT bytes, and whether there are more."""
    sql = PIECES.format(
        of_targets="" if wanted.targets is None else "AND step_target_id = ANY (%(targets)s)",
        of_streams="AND stream = ANY (%(streams)s)" if wanted.streams else "",
    )
    values = {
        "execution": wanted.execution_id,
        "after": after,
        "limit": limit,
        "targets": wanted.targets,
        "streams": wanted.streams,
        "text": MAX_TEXT,
    }
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        rows = cursor.fetchall()
    found = []
    for seq, at, stream, text, step_target, _ in rows:
        step, target = wanted.names.get(step_target, ("", ""))
        found.append(
            {
                "seq": seq,
                "at": at,
                "step": step,
                "target": target or None,
                "step_target": step_target,
                "stream": stream,
                "text": text,
            }
        )
    more = bool(rows) and (len(rows) < rows[0][-1] or len(rows) == limit)
    return found, more
