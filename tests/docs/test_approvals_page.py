"""docs/reference/approvals.md says what the server decides."""

from __future__ import annotations

import re

import pytest
from django.conf import settings

from safety.approvals import Risk, approval_level, approvals_needed, step_needs_approval
from safety.models import TimeoutPolicy
from tests.docs.pages import rows, text_of

PAGE = text_of("docs/reference/approvals.md")
EXAMPLES = rows(PAGE, "plan | environments | level")


@pytest.mark.parametrize(("plan", "environments", "level"), EXAMPLES, ids=[f"{row[0]}; {row[1]}" for row in EXAMPLES])
def test_a_line_of_the_examples_is_what_the_server_decides(plan: str, environments: str, level: str) -> None:
    words = [word.strip() for word in plan.split(",")]
    counted = re.search(r"(\d+) target", plan)
    share = re.search(r"(\d+) % of a group", plan)
    risk = Risk(
        action_class="read" if words[0] == "reads" else "modify",
        environments=[] if environments == "none" else environments.split(", "),
        declared_environment="production" if "calls itself production" in words else None,
        criticalities=["critical" if "critical" in plan else "medium"],
        target_count=int(counted[1]) if counted else 0,
        group_percent=int(share[1]) if share else 0,
        changing_steps={"reads": 0, "one change": 1, "two changes": 2}[words[0]],
        changes_without_target=environments == "none" or "of no target" in words,
        irreversible="irreversible" in words,
        asks_for_approval="asks for approval" in words,
    )
    assert approval_level(risk) == int(level)


def test_the_limit_and_the_number_of_people_are_as_said() -> None:
    assert f"`APPROVAL_TARGETS` ({settings.APPROVAL_TARGETS})" in PAGE
    assert f"`APPROVAL_GROUP_PERCENT` ({settings.APPROVAL_GROUP_PERCENT}) %" in PAGE
    people = {"none": 0, "one person": 1, "two people": 2}
    for level, approvals, _ in rows(PAGE, "level | approvals | when (the first line that fits, from the top)"):
        assert approvals_needed(int(level)) == people[approvals]


@pytest.mark.parametrize(("level", "step", "more"), rows(PAGE, "level | step | one more approval"))
def test_the_steps_that_need_an_approval_of_their_own_are_as_said(level: str, step: str, more: str) -> None:
    irreversible, asks = step == "cannot be undone", step == "the plan asks for approval of it"
    needs = step_needs_approval(int(level), irreversible=irreversible, asks_for_approval=asks)
    assert needs is (more == "yes")


@pytest.mark.django_db
def test_the_time_limits_are_those_of_a_new_installation() -> None:
    heading = "SLA class | action class | step s | execution s | time to decide s | attempts"
    told = {(row[0], row[1]): tuple(map(int, row[2:])) for row in rows(PAGE, heading)}
    assert told == {
        (p.sla_class, p.action_class): (p.step_seconds, p.execution_seconds, p.approval_seconds, p.max_attempts)
        for p in TimeoutPolicy.objects.all()
    }
