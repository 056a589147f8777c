"""docs/reference/states.md has the states and moves that the code has, and docs/reference/events.md their kinds."""

from __future__ import annotations

import re

from executions.states import EXECUTION_MOVES, FINAL_EXECUTION, STEP_MOVES, ExecutionStatus, StepStatus
from queueing.models import DeadReason, EntryState
from safety.audit import ACTIONS
from tests.docs.pages import ROOT, rows, text_of
from tests.docs.states_tables import written

STATES = "docs/reference/states.md"
EVENTS = "docs/reference/events.md"
KIND = r"[\"']((?:execution|approval|step|rollback)\.[a-z_]+)[\"']"


def test_the_tables_of_moves_are_up_to_date() -> None:
    page = text_of(STATES)
    assert written(page) == page, "python -m tests.docs.states_tables writes them"
    assert page.count("| `pending_approval` | `queued` | `execution.approved` |") == 1  # they are really in the page


def test_every_execution_status_is_explained_and_final_ones_are_called_so() -> None:
    table = rows(text_of(STATES), "status | means | what it waits for, or what to do")
    assert [row[0] for row in table] == [f"`{status}`" for status in ExecutionStatus.values]
    final = {row[0].strip("`") for row in table if row[1].startswith("final: ")}
    assert final == {str(status) for status in FINAL_EXECUTION}


def test_every_step_status_and_entry_state_is_explained() -> None:
    page = text_of(STATES)
    assert [row[0] for row in rows(page, "status | means")] == [f"`{status}`" for status in StepStatus.values]
    assert [row[0] for row in rows(page, "state | means | left by")] == [f"`{state}`" for state in EntryState.values]


def test_every_kind_of_event_is_explained() -> None:
    written_kinds = {"output", *EXECUTION_MOVES.values(), *(f"step.{word}" for word in STEP_MOVES.values())}
    for folder, suffix in (("services", "*.py"), ("engine", "*.py"), ("sql", "*.sql")):
        for file in (ROOT / "executions" / folder).glob(suffix):
            source = file.read_text(encoding="utf-8")
            written_kinds |= set(re.findall(KIND, source)) - set(ACTIONS)
    explained: set[str] = set()
    for row in rows(text_of(EVENTS), "kind | when | data"):
        explained |= set(re.findall(r"`([a-z]+(?:\.[a-z_]+)?)`", row[0]))
    assert explained - {"target"} == written_kinds


def test_every_reason_of_the_dlq_is_in_its_how_to() -> None:
    table = rows(text_of("docs/how-to/recover-from-the-dlq.md"), "reason | what happened | what to do")
    assert [row[0] for row in table] == [f"`{reason}`" for reason in DeadReason.values]
