"""Everything that an execution's page says; each part is read when a template asks for it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from django.db.models import Count, F, Max, Q
from django.utils import timezone

from executions.approval_asks import Ask, asks_of
from executions.models import Approval, Event, Execution, PendingApproval, Step, StepTarget
from executions.pages.durations import between, span
from executions.pages.looks import PROBLEMS, STEP_ORDER
from executions.pages.undoing import Cleanup, cleanup_of, progress_of
from executions.states import FINAL_STEP, NOT_APPROVED, ExecutionStatus, StepStatus
from executions.tally import UNREACHABLE, is_unreachable, wave_of
from executions.waiting import waiting_sentence
from queueing.models import DeadLetter
from safety import rbac
from safety.audit.reading import records_for
from safety.models import AuditRecord, User

E = ExecutionStatus
S = StepStatus
MOST_AUDITED = 500
IS_UNREACHABLE = Q(status=S.FAILED, error_code__in=sorted(UNREACHABLE))
UNREACHABLE_ROWS = Count("pk", filter=IS_UNREACHABLE)


@dataclass(frozen=True, slots=True)
class StepView:
    """A step with what became of its targets. `rank` sorts for the rail: failed, running, waiting, done."""

    step: Step
    counts: Counter[str]
    attempts: int
    fault: str
    unreachable: int = 0
    reached: int = 0  # the last position of a target that has begun

    @property
    def wave(self) -> int | None:
        """The wave that it has come to; None when all of its targets go as one, or none has begun."""
        return wave_of(self.step.waves, self.reached) if self.reached else None

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def done(self) -> int:
        return sum(count for status, count in self.counts.items() if status in FINAL_STEP)

    @property
    def ok(self) -> int:
        return self.counts[S.SUCCEEDED]

    @property
    def failed(self) -> int:
        return sum(self.counts[status] for status in PROBLEMS) - self.unreachable

    @property
    def rank(self) -> int:
        return STEP_ORDER.index(self.step.status)

    @property
    def took(self) -> timedelta | None:
        return between(self.step.started_at, self.step.finished_at)


@dataclass(frozen=True, slots=True)
class Bar:
    """A row of the waterfall, in thousandths of the whole time."""

    label: str
    status: str
    wait_from: int
    wait_width: int
    run_from: int
    run_width: int
    text: str


@dataclass(frozen=True, slots=True)
class Action:
    """Something that the user might do; `why_not` says why not, and is empty when it is possible."""

    why_not: str = ""

    @property
    def possible(self) -> bool:
        return not self.why_not


class Overview:
    """One execution as one user sees it. Wants actor and parent selected with it."""

    def __init__(self, execution: Execution, user: User) -> None:
        self.execution = execution
        self.user = user
        self.now = timezone.now()

    # --- steps and progress

    @cached_property
    def steps(self) -> list[StepView]:
        counts: dict[int, Counter[str]] = defaultdict(Counter)
        attempts: dict[int, int] = defaultdict(int)
        away: Counter[int] = Counter()
        reached: dict[int, int] = defaultdict(int)
        rows = (
            StepTarget.objects.filter(execution=self.execution)
            .order_by()
            .values("step_id", "status")
            .annotate(count=Count("pk"), attempts=Max("attempt"), away=UNREACHABLE_ROWS, reached=Max("position"))
        )
        for row in rows:
            counts[row["step_id"]][row["status"]] = row["count"]
            attempts[row["step_id"]] = max(attempts[row["step_id"]], row["attempts"])
            away[row["step_id"]] += row["away"]
            if row["status"] not in (S.PENDING, S.SKIPPED):
                reached[row["step_id"]] = max(reached[row["step_id"]], row["reached"])
        faults = self._faults if any(status in PROBLEMS for c in counts.values() for status in c) else {}
        return [
            StepView(
                step,
                counts[step.pk],
                attempts[step.pk],
                step.error or faults.get(step.pk, ""),
                away[step.pk],
                reached[step.pk],
            )
            for step in Step.objects.filter(execution=self.execution).order_by("position")
        ]

    @cached_property
    def _faults(self) -> dict[int, str]:
        """The first fault of each step that has one, as a phrase with its host."""
        rows = (
            StepTarget.objects.filter(execution=self.execution, status__in=PROBLEMS)
            .order_by("step_id", "position")
            .distinct("step_id")
            .values_list("step_id", "name", "status", "exit_code", "error")
        )
        return {step_id: _fault(name, status, code, error) for step_id, name, status, code, error in rows}

    @property
    def rail(self) -> list[StepView]:
        return sorted((view for view in self.steps if view.step.kind == "step"), key=lambda v: v.step.position)

    @property
    def rollback(self) -> list[StepView]:
        return [view for view in self.steps if view.step.kind != "step"]

    @cached_property
    def counts(self) -> Counter[str]:
        """By status, the targets of the plan's steps: what undoes them is counted by itself."""
        total: Counter[str] = Counter()
        for view in self.rail:
            total.update(view.counts)
        return total

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def done(self) -> int:
        return sum(count for status, count in self.counts.items() if status in FINAL_STEP)

    @property
    def ok(self) -> int:
        return self.counts[S.SUCCEEDED]

    @property
    def problems(self) -> int:
        return sum(self.counts[status] for status in PROBLEMS)

    @property
    def unreachable(self) -> int:
        return sum(view.unreachable for view in self.rail)

    @property
    def parts(self) -> list[tuple[str, int, int]]:
        """(status, from, width) in thousandths: the progress bar."""
        parts, at = [], 0
        order = (S.SUCCEEDED, S.FAILED, S.TIMED_OUT, S.UNKNOWN, S.CANCELLED, S.SKIPPED, S.RUNNING)
        for status in order:
            if count := self.counts[status]:
                width = round(1000 * count / self.total)
                parts.append((str(status), at, width))
                at += width
        return parts

    # --- the sentence

    @cached_property
    def sentence(self) -> str:
        """Why it is in the state it is in."""
        execution = self.execution
        match execution.status:
            case E.PENDING_APPROVAL:
                if self.ask.points:
                    return execution.status_reason
                given = f"{len(self.ask.given)} of {self.ask.needed} approvals given"
                return f"{given} (level {execution.approval_level})."
            case E.QUEUED:
                return waiting_sentence(execution)
            case E.RUNNING:
                return self._running_sentence()
            case E.CANCELLING if execution.error_code in NOT_APPROVED:
                undoing = progress_of(self.rollback) if self.rollback else "What was done is about to be rolled back."
                return f"{execution.status_reason} {undoing}"
            case E.CANCELLING:
                if self.rollback:
                    return f"{progress_of(self.rollback)} {self._who_cancelled()}".strip()
                running = self.counts[S.RUNNING]
                what = f"Stopping what runs on {_many(running, 'target')}." if running else "Stopping."
                return f"{what} {self._who_cancelled()}".strip()
            case E.CANCELLED:
                return self._cancelled_sentence()
            case E.NEEDS_ATTENTION:
                return execution.status_reason or self._unknown_sentence()
        return execution.status_reason or self._end_sentence()

    def _cancelled_sentence(self) -> str:
        who, reason = self._who_cancelled(), self.execution.status_reason
        if who and self.rollback:  # the reason also says what was rolled back
            return f"{who} {reason.removeprefix('Cancelled.').strip()}"
        return who or reason or self._end_sentence()

    def _running_sentence(self) -> str:
        if self.rollback:
            return f"{self.execution.status_reason} {progress_of(self.rollback)}".strip()
        running = [view for view in self.steps if view.step.status == S.RUNNING]
        if not running:
            return "Between two steps."
        view = running[0]
        where = f" on {view.counts[S.RUNNING]:,} of {view.total:,} hosts" if view.total > 1 else ""
        if view.wave:
            where += f", wave {view.wave} of {len(view.step.waves or ())}"
            where += "" if view.counts[S.RUNNING] else ", waiting before the next"
        more = f", and {_many(len(running) - 1, 'other step')}" if len(running) > 1 else ""
        return f"Step {view.step.position} of {len(self.rail)}, {view.step.key}{where}{more}."

    def _unknown_sentence(self) -> str:
        keys = ", ".join(step.key for step in self.unknown_steps)
        return f"What became of {keys} is not known: a person has to look." if keys else "A person has to decide."

    def _who_cancelled(self) -> str:
        """Who asked for it and why; empty when nobody is on record."""
        asked = Event.objects.filter(
            execution=self.execution,
            kind__in=["execution.cancelling", "execution.cancelled"],
            actor__startswith="user:",
        )
        event = asked.order_by("seq").first()
        if event is None:
            return ""
        who = f"Cancelled by {event.actor.removeprefix('user:')}"
        return f"{who}: {event.reason}" if event.reason else f"{who}."

    def _end_sentence(self) -> str:
        if self.execution.status == E.SUCCEEDED:
            return "Its one step succeeded." if len(self.rail) == 1 else f"All {len(self.rail)} steps succeeded."
        bad = [view for view in self.steps if view.failed]
        if not bad:
            return f"{self.ok} of {self.total} done."
        first = bad[0]
        more = f" And {_many(len(bad) - 1, 'other step')}." if len(bad) > 1 else ""
        return f"Step {first.step.key}: {first.fault or 'failed'}{more}"

    # --- who may do what, and why not

    @cached_property
    def cancel(self) -> Action:
        if self.execution.is_final:
            return Action("It has ended: nothing is left to cancel.")
        if self.execution.status == E.CANCELLING:
            return Action("It is being cancelled.")
        if not rbac.can_cancel(self.user, self.execution):
            return Action("Only its requester, an operator or an administrator may cancel it.")
        return Action()

    @cached_property
    def approve(self) -> Action:
        if self.execution.actor_id == self.user.pk:
            return Action("Nobody approves their own request.")
        if not self.ask.points and any(approval.by_id == self.user.pk for approval in self.ask.given):
            return Action("You have decided already; somebody else has to.")
        if not rbac.can_approve(self.user, self.execution):
            return Action("You have no right to approve on these machines.")
        return Action()

    @cached_property
    def retry(self) -> Action:
        if not self.execution.is_final:
            return Action("It has not ended yet.")
        if self.execution.status == E.SUCCEEDED:
            return Action("Nothing failed.")
        return Action()

    @cached_property
    def retry_hosts(self) -> dict[str, int]:
        """How many hosts a retry would run on: `all` that are left, those that were `unreachable`, that `failed`."""
        rows = StepTarget.objects.filter(execution=self.execution, step__kind="step").exclude(asset=None)
        fault = Q(status__in=(S.FAILED, S.TIMED_OUT))
        return rows.exclude(status=S.SUCCEEDED).aggregate(
            all=Count("asset_id", distinct=True),
            unreachable=Count("asset_id", distinct=True, filter=IS_UNREACHABLE),
            failed=Count("asset_id", distinct=True, filter=fault & ~IS_UNREACHABLE),
        )

    @property
    def waits_for_approval(self) -> bool:
        return self.execution.status == E.PENDING_APPROVAL

    @cached_property
    def ask(self) -> Ask:
        """How far its approval is."""
        return asks_of([self.execution], with_gates=self.waits_for_approval)[0]

    @property
    def approvals(self) -> list[Approval]:
        return self.ask.approvals

    @cached_property
    def own_approval(self) -> frozenset[str]:
        """The ids of the steps that need an approval of their own."""
        return self.ask.marked_steps if self.execution.approval_level else frozenset()

    @cached_property
    def withdraw(self) -> bool:
        """Whether the user has given an approval that can be taken back."""
        if self.execution.is_final or self.execution.approval_level == 0:
            return False
        over = {view.step.key for view in self.rail if view.step.status in FINAL_STEP}
        return any(approval.by_id == self.user.pk and approval.step not in over for approval in self.ask.standing)

    # --- trouble

    @cached_property
    def unknown_steps(self) -> list[Step]:
        """Those of which a person has to say what became of them."""
        return [view.step for view in self.steps if view.step.waits_for_answer]

    @cached_property
    def cleanup(self) -> Cleanup:
        """What a cancel would undo now."""
        return cleanup_of(self.execution)

    @cached_property
    def dead_letter(self) -> DeadLetter | None:
        if self.execution.status != E.NEEDS_ATTENTION:
            return None
        return DeadLetter.objects.filter(execution_id=self.execution.pk, state="open").first()

    @cached_property
    def unconfirmed(self) -> list[StepTarget]:
        """Targets that were told to stop, and did not say that they did."""
        rows = StepTarget.objects.filter(execution=self.execution, stop_confirmed=False)
        return list(rows.select_related("step").order_by("pk")[:20])

    @property
    def late(self) -> bool:
        end = self.execution.finished_at or self._stood_still_at or self.now
        return self.execution.deadline_at is not None and end > self.execution.deadline_at

    @cached_property
    def _stood_still_at(self) -> datetime | None:
        """Since when its time limit stands still, because a step waits for approval."""
        if not self.waits_for_approval or self.execution.started_at is None:
            return None
        return PendingApproval.objects.filter(pk=self.execution.pk).values_list("asked_at", flat=True).first()

    @property
    def deadline_part(self) -> int | None:
        """Thousandths of the time limit that are used up; None before it has begun."""
        execution = self.execution
        end = execution.finished_at or self._stood_still_at or self.now
        if execution.started_at is None or not execution.execution_seconds:
            return None
        # The deadline moves on with the time that does not count.
        deadline = execution.deadline_at or execution.started_at + timedelta(seconds=execution.execution_seconds)
        left = (deadline - end).total_seconds()
        return max(0, min(1000, round(1000 * (1 - left / execution.execution_seconds))))

    # --- history

    @cached_property
    def audit(self) -> list[Event]:
        """The moves of the execution and its steps, not those of each host; the newest ones, oldest first."""
        rows = Event.objects.filter(execution=self.execution).exclude(kind__startswith="target.")
        newest = rows.order_by("-seq")[:MOST_AUDITED]
        return list(reversed(newest))

    @cached_property
    def records(self) -> list[AuditRecord]:
        """What the audit has on this execution, for those who may read the audit; the newest ones, oldest first."""
        rows = AuditRecord.objects.filter(
            records_for(self.user), object_type="execution", object_id=str(self.execution.pk)
        )
        return list(reversed(rows.select_related("seal").order_by("-pk")[:MOST_AUDITED]))

    @property
    def audit_is_cut(self) -> bool:
        return len(self.audit) == MOST_AUDITED

    @cached_property
    def span(self) -> float:
        """Seconds that the waterfall shows."""
        end = self.execution.finished_at or self.now
        return max(0.001, (end - self.execution.created_at).total_seconds())

    @property
    def ticks(self) -> list[tuple[int, str]]:
        return [(part, span(self.span * part / 1000)) for part in (0, 250, 500, 750, 1000)]

    @property
    def bars(self) -> list[Bar]:
        execution = self.execution
        first = Bar(
            "In the queue", E.QUEUED, 0, self._at(execution.started_at or execution.finished_at or self.now), 0, 0,
            span(between(execution.created_at, execution.started_at or execution.finished_at or self.now)),
        )  # fmt: skip
        return [first, *(self._bar(view) for view in self.steps)]

    def _bar(self, view: StepView) -> Bar:
        step = view.step
        label = step.key if step.kind == "step" else f"undo {step.key}"
        if step.started_at is None:
            return Bar(label, step.status, 0, 0, 0, 0, "")
        begun, ended = self._at(step.started_at), self._at(step.finished_at or self.now)
        # What undoes something waits for nothing but what is undone before it.
        ready = self._at(self.execution.started_at) if step.kind == "step" else begun
        took = span(between(step.started_at, step.finished_at or self.now))
        return Bar(label, step.status, ready, max(0, begun - ready), begun, max(3, ended - begun), took)

    def _at(self, moment: datetime | None) -> int:
        if moment is None:
            return 0
        part = (moment - self.execution.created_at).total_seconds() / self.span
        return max(0, min(1000, round(1000 * part)))


def hosts_table(execution: Execution) -> dict[str, object]:
    """Return the matrix of hosts and steps, as small as it gets: 1,000 hosts x 10 steps are 10,000 cells.

    {"steps": [[id, key, kind, how many waves]], "hosts": [[name, [cell per step or null]]]} with cell = [target id,
    status, exit code, attempt, seconds, wave or 0, 1 if unreachable].
    """
    found = Step.objects.filter(execution=execution).order_by("position").values_list("pk", "key", "kind", "waves")
    sizes = {pk: waves for pk, _, _, waves in found}
    steps = [(pk, key, kind, len(waves or ())) for pk, key, kind, waves in found]
    column = {pk: number for number, pk in enumerate(sizes)}
    hosts: dict[str, list[object]] = {}
    rows: Iterable[tuple[int, int, int, str, str, str, int | None, int, datetime | None, datetime | None]] = (
        StepTarget.objects.filter(execution=execution)
        .order_by(F("step__position"), "position")
        .values_list(
            "pk",
            "step_id",
            "position",
            "name",
            "status",
            "error_code",
            "exit_code",
            "attempt",
            "started_at",
            "finished_at",
        )
    )
    for pk, step_id, position, name, status, code, exit_code, attempt, began, ended in rows:
        took = between(began, ended)
        seconds = round(took.total_seconds(), 3) if took is not None else None
        cells = hosts.setdefault(name, [None] * len(steps))
        wave, away = wave_of(sizes[step_id], position) or 0, int(is_unreachable(status, code))
        cells[column[step_id]] = [pk, status, exit_code, attempt, seconds, wave, away]
    return {"steps": steps, "hosts": list(hosts.items())}


def _fault(name: str, status: str, exit_code: int | None, error: str) -> str:
    where = f" on {name}" if name else ""
    first_line = error.strip().splitlines()[0] if error.strip() else ""
    if status == S.FAILED and exit_code is not None:
        return f"exit code {exit_code}{where}" + (f": {first_line}" if first_line else ".")
    what = {S.FAILED: "failed", S.TIMED_OUT: "ran out of time", S.UNKNOWN: "outcome unknown"}.get(
        StepStatus(status), status
    )
    return f"{what}{where}" + (f": {first_line}" if first_line else ".")


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
