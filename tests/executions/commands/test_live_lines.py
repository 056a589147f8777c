"""What `run_plan --follow` shows: whole lines, each with its target, safe for a terminal."""

from __future__ import annotations

import io
from typing import Any

from executions.live.feed import FeedItem
from executions.live.lines import MAX_PARTIAL, LiveLines


def output(text: str, *, target: str = "db", step: str = "a", stream: str = "stdout") -> FeedItem:
    data = {"step": step, "target": target, "step_target": hash(target + step), "stream": stream, "text": text}
    return item("output", actor="system", data=data)


def item(kind: str, *, actor: str = "worker:host/1", reason: str = "", data: dict[str, Any] | None = None) -> FeedItem:
    at = "2026-01-31T10:20:30.000000Z"
    return {"seq": 1, "at": at, "kind": kind, "actor": actor, "reason": reason, "data": data or {}}


def shown(*items: FeedItem, colours: bool = False) -> list[str]:
    out = io.StringIO()
    lines = LiveLines(out, colours=colours)
    for one in items:
        lines.show([one])
    lines.close()
    return out.getvalue().splitlines()


def test_output_of_targets_that_print_at_once_is_never_mixed_in_a_line() -> None:
    lines = shown(
        output("one ", target="db"), output("eins ", target="web"), output("two\nthree", target="db"),
        output("zwei\n", target="web"), output("\n", target="db"), output("bad", target="db", stream="stderr"),
    )  # fmt: skip
    assert lines == ["  a@db | one two", "  a@web | eins zwei", "  a@db | three", "  a@db ! bad"]


def test_a_line_without_an_end_is_shown_before_the_steps_end() -> None:
    lines = shown(
        output("no end"), output("other", step="b"), item("step.succeeded", data={"step": "a", "exit_code": 0})
    )
    assert lines == ["  a@db | no end", "10:20:30 step a: succeeded (exit code 0)", "  b@db | other"]


def test_an_endless_line_is_not_kept_for_ever() -> None:
    lines = shown(*[output("x" * 1000)] * 100)
    assert max(len(line) for line in lines) <= MAX_PARTIAL + 1100
    assert sum(line.count("x") for line in lines) == 100_000


def test_windows_line_ends_and_progress_bars_are_lines() -> None:
    assert shown(output("a\r"), output("\nb\r\n10 %\r20 %\r"), output("done\n")) == [
        "  a@db | a", "  a@db | b", "  a@db | 10 %", "  a@db | 20 %", "  a@db | done",
    ]  # fmt: skip


def test_output_cannot_steer_the_terminal() -> None:
    hostile = "\x1b[2J\x1b]0;title\x07\x9b31m\x7f\ttext\n"
    (line,) = shown(output(hostile, target="d\x1bb"))
    assert line == "  a@d␛b | ␛[2J␛]0;title␇\\x9b31m␡\ttext"
    (event,) = shown(item("step.failed", reason="\x1b[31mred\nline", data={"step": "a\x1b"}))
    assert event == "10:20:30 step a␛: failed - ␛[31mred␊line"


def test_events_say_who_what_and_why() -> None:
    assert shown(
        item("execution.submitted", actor="user:alice"),
        item("execution.timed_out", reason="The time was up."),
        item("target.failed", data={"step": "a", "target": "db", "exit_code": 3, "error": "It broke."}),
    ) == [
        "10:20:30 execution submitted [alice]",
        "10:20:30 execution timed out - The time was up.",
        "10:20:30 target a on db: failed (exit code 3) - It broke.",
    ]


def test_colours_are_used_only_when_asked_for() -> None:
    items = [output("x\n", stream="stderr"), item("step.failed", data={"step": "a"})]
    assert "\x1b[" not in "".join(shown(*items))
    assert all("\x1b[" in line for line in shown(*items, colours=True))
