"""The one series in which an execution is read."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from executions.live.feed import read, read_page
from executions.models import StepTarget
from tests.executions.live.rows import make_execution, make_user, print_out, say

pytestmark = pytest.mark.django_db


def test_events_and_output_are_one_series_without_a_gap() -> None:
    execution = make_execution(make_user())
    target = StepTarget.objects.filter(execution=execution).select_related("execution").first()
    assert target
    print_out(target, ["one\n", "two\n"])
    say(execution, "step.succeeded", actor="worker:w/1", reason="exit 0", data={"step": "check"})
    print_out(target, ["oops\n"], "stderr")

    items = read(execution.pk)

    assert [item["seq"] for item in items] == [1, 2, 3, 4, 5]
    assert [item["kind"] for item in items] == ["execution.submitted", "output", "output", "step.succeeded", "output"]
    assert items[1]["data"] == {
        "step": "check", "target": "localhost", "step_target": target.pk, "stream": "stdout", "text": "one\n",
    }  # fmt: skip
    assert items[3]["actor"] == "worker:w/1"
    assert items[3]["reason"] == "exit 0"
    assert items[3]["data"] == {"step": "check"}
    assert items[4]["data"]["stream"] == "stderr"
    assert items[0]["at"].endswith("Z")


def test_reading_goes_on_after_the_cursor_and_says_whether_there_is_more() -> None:
    execution = make_execution(make_user())
    target = StepTarget.objects.filter(execution=execution).select_related("execution").first()
    assert target
    print_out(target, [f"{n}\n" for n in range(10)])

    first = read_page(execution.pk, 0, 4)
    second = read_page(execution.pk, first.items[-1]["seq"], 4)
    last = read_page(execution.pk, second.items[-1]["seq"], 4)

    assert [i["seq"] for i in first.items + second.items + last.items] == list(range(1, 12))
    assert (first.more, second.more, last.more) == (True, True, False)
    assert read_page(execution.pk, 11).items == []
    assert read_page(execution.pk, 11).more is False


def test_a_page_is_cut_by_size_but_never_empty_while_there_is_something() -> None:
    execution = make_execution(make_user())
    target = StepTarget.objects.filter(execution=execution).select_related("execution").first()
    assert target
    print_out(target, ["x" * 600, "y" * 600, "z" * 5000])

    sizes = []
    after = 0
    while (page := read_page(execution.pk, after, max_text=1000)).items:
        sizes.append(len(page.items))
        after = page.items[-1]["seq"]
    assert sizes == [2, 1, 1]
    assert after == 4


def test_another_execution_is_not_mixed_in_and_a_page_is_one_query() -> None:
    user = make_user()
    mine, other = make_execution(user), make_execution(user, title="Other")
    say(other, "execution.running")
    with CaptureQueriesContext(
        connection,
    ) as queries:
        items = read(mine.pk)
    assert len(items) == 1
    assert len(queries) == 1
