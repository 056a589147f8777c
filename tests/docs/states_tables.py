"""The tables of moves in docs/reference/states.md: `python -m tests.docs.states_tables` writes them into the page."""

from __future__ import annotations

import re

from executions.states import ANSWER_MOVES, EXECUTION_MOVES, FINAL_EXECUTION, FINAL_STEP, RERUN_MOVES, STEP_MOVES
from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "reference" / "states.md"


def execution_moves() -> str:
    """One row for each legal move of an execution."""
    lines = ["| from | to | event |", "|---|---|---|"]
    for (old, new), kind in EXECUTION_MOVES.items():
        lines.append(f"| `{old}` | `{new}`{', final' if new in FINAL_EXECUTION else ''} | `{kind}` |")
    return "\n".join(lines)


def step_moves() -> str:
    """One row for each legal move of a step or a target; the last ones are made by people alone."""
    lines = ["| from | to | event |", "|---|---|---|"]
    for (old, new), word in (STEP_MOVES | RERUN_MOVES | ANSWER_MOVES).items():
        ended = ", ended" if new in FINAL_STEP else ""
        lines.append(f"| `{old}` | `{new}`{ended} | `step.{word}`, `target.{word}` |")
    return "\n".join(lines)


def written(page: str) -> str:
    """The page with its tables of moves as the code has them now."""
    for name, table in (("execution moves", execution_moves()), ("step moves", step_moves())):
        page = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- end -->)",
            lambda found, table=table: f"{found[1]}{table}\n{found[2]}",  # type: ignore[misc]
            page,
            count=1,
            flags=re.DOTALL,
        )
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
