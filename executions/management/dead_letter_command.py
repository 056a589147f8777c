"""What the two commands that decide on DLQ entries share: which entries, ask first, progress, what became of each."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any, ClassVar

from django.core.management.base import CommandError, CommandParser

from executions import services
from executions.dead_letter_queries import Preview, Selection, preview
from executions.management.acting_user import acting_user, add_acting_user
from executions.models import Execution
from executions.services.dead_letter_batches import DEFAULT_PACE, FASTEST, SMALL
from executions.services.refusals import Refused
from queueing.models import (
    BatchState,
    BatchVerb,
    DeadLetter,
    DeadLetterBatch,
    DeadLetterBatchItem,
    DeadReason,
    ItemOutcome,
    RequeueFrom,
)
from safety.management.example_help import ExampleCommand
from safety.models import User

SHOWN = 20
TELL_EVERY_SECONDS = 5.0
NOT_ALL, REFUSED, INTERRUPTED = 1, 2, 130

WORDS: dict[str, str] = {
    ItemOutcome.REQUEUED: "back in the queue",
    ItemOutcome.DISCARDED: "given up: ended as failed",
    ItemOutcome.MOVED_ON: "somebody had decided already",
    ItemOutcome.UNKNOWN_OUTCOME: "a person has to say first what became of a step (resolve), or --from-failed-step",
    ItemOutcome.FORBIDDEN: "not allowed for this user",
    ItemOutcome.FAILED: "a fault of ours: the log says more",
    ItemOutcome.WAITING: "not done: still in the DLQ",
}


class DeadLetterCommand(ExampleCommand):
    """A decision on DLQ entries from the command line. Subclasses say which."""

    verb: ClassVar[BatchVerb]
    done: ClassVar[str]
    why_help: ClassVar[str]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("ids", metavar="ID", nargs="*", type=int, help="numbers of DLQ entries")
        parser.add_argument("--all", action="store_true", help="every open entry")
        parser.add_argument("--reason", choices=DeadReason.values, help="those that were parked for this reason")
        parser.add_argument("--fingerprint", metavar="F", help="those of one error, as the DLQ page groups them")
        parser.add_argument("--why", metavar="TEXT", default="", help=self.why_help)
        parser.add_argument(
            "--per-second",
            metavar="N",
            type=_pace,
            help=f"entries a second at most, 1 to {FASTEST} (up to {SMALL} as fast as it goes, more at {DEFAULT_PACE})",
        )
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.add_argument("--dry-run", action="store_true", help="only show what would be met; nothing is written")
        add_acting_user(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        selection = _selection(options)
        user = acting_user(options)
        start_from = RequeueFrom.FAILED_STEP if options.get("from_failed_step") else RequeueFrom.AS_IT_IS
        if not options["why"].strip() and (self.verb == BatchVerb.DISCARD or start_from == RequeueFrom.FAILED_STEP):
            raise CommandError("Say --why: it is kept with each execution.", returncode=REFUSED)
        met = preview(selection, by=user)
        if options["dry_run"]:
            self._show(user, selection, met, start_from)
            return
        if not met.matched:
            self.stdout.write("No open DLQ entry is selected.")
            if options["ids"]:
                sys.exit(NOT_ALL)
            return
        if not options["ids"] and not options["yes"]:
            self._ask(user, met, start_from)
        try:
            batch = services.start_batch(
                selection, verb=self.verb, by=user, reason=options["why"], start_from=start_from,
                per_second=options["per_second"],
            )  # fmt: skip
        except Refused as refused:
            raise CommandError(f"{refused.message} {refused.how_to_fix}", returncode=REFUSED) from None
        if batch is None:
            self.stdout.write("No open DLQ entry is selected: somebody was faster.")
            sys.exit(NOT_ALL)
        self._carry_out(batch, user)
        left_out = set(options["ids"]) - set(batch.items.values_list("entry_id", flat=True))
        self._report(batch, sorted(left_out))

    # -- before -------------------------------------------------------------------------------------------------------

    def _show(self, user: User, selection: Selection, met: Preview, start_from: RequeueFrom) -> None:
        rows = list(selection.open_entries(user).order_by("pk")[:SHOWN])
        titles = dict(Execution.objects.filter(pk__in=[row.execution_id for row in rows]).values_list("pk", "title"))
        if rows:
            self.stdout.write(f"{'ENTRY':>8}  {'EXECUTION':>9}  {'REASON':<18}  {'TITLE':<30}  LAST ERROR")
        for row in rows:
            self.stdout.write(_line(row, titles.get(row.execution_id, "")))
        if met.matched > len(rows):
            self.stdout.write(f"and {met.matched - len(rows):,} more")
        self.stdout.write(f"Would {self.verb} {self._in_words(met, start_from)}. Nothing was changed.")

    def _in_words(self, met: Preview, start_from: RequeueFrom) -> str:
        """What a decision would meet: "412 entries; 12 have a step whose outcome is unknown and are refused; ..."."""
        parts = [f"{met.matched:,} {'entry' if met.matched == 1 else 'entries'}"]
        if met.looked_at < met.matched:
            parts.append(f"of the first {met.looked_at:,}")
        if self.verb == BatchVerb.REQUEUE:
            if met.unknown and start_from == RequeueFrom.AS_IT_IS:
                parts.append(f"{met.unknown:,} have a step whose outcome is unknown, and are refused")
            elif met.unknown:
                parts.append(f"{met.unknown:,} have a step whose outcome is unknown, which is run again")
            if met.locked_assets:
                parts.append(f"{met.locked_assets:,} of their assets are locked by others now, which they wait for")
        if met.forbidden:
            parts.append(f"{met.forbidden:,} are not allowed for this user")
        return "; ".join(parts)

    def _ask(self, user: User, met: Preview, start_from: RequeueFrom) -> None:
        told = self._in_words(met, start_from)
        if not sys.stdin.isatty():
            raise CommandError(f"This would {self.verb} {told}: give --yes if that is meant.")
        if input(f"{self.verb.capitalize()} {told}, as {user.username}? [y/N] ").strip().lower() not in ("y", "yes"):
            raise CommandError("Nothing was changed.")

    # -- doing it -----------------------------------------------------------------------------------------------------

    def _carry_out(self, batch: DeadLetterBatch, user: User) -> None:
        """Work at the batch, beside whichever workers do, and say how far it is. Ctrl-C cancels it."""
        told_at = time.monotonic()

        def tell(batch: DeadLetterBatch) -> None:
            nonlocal told_at
            if batch.state == BatchState.RUNNING and time.monotonic() - told_at >= TELL_EVERY_SECONDS:
                told_at = time.monotonic()
                self.stdout.write(f"{batch.done:,} of {batch.matched:,} done.")
                self.stdout.flush()

        if batch.per_second is not None:
            seconds = batch.matched // batch.per_second
            self.stdout.write(
                f"Batch {batch.pk}: {batch.matched:,} entries at {batch.per_second} a second, about"
                f" {f'{seconds // 60} min' if seconds > 90 else f'{seconds} s'}. Ctrl-C cancels it; should this process"
                " die, workers go on with it."
            )
            self.stdout.flush()
        try:
            while not services.carry_out(batch, seconds=60, told=tell):
                pass
        except KeyboardInterrupt:
            try:
                services.cancel_batch(batch.pk, by=user)
            except Refused:  # it has just ended
                pass
            batch.refresh_from_db()
            self._report_counts(batch)
            sys.exit(INTERRUPTED)

    # -- after --------------------------------------------------------------------------------------------------------

    def _report(self, batch: DeadLetterBatch, left_out: list[int]) -> None:
        """The entries that are not done, how many came to what, and the exit status."""
        rest = DeadLetterBatchItem.objects.filter(batch=batch).exclude(outcome=self.done).order_by("pk")
        rows = [
            (entry_id, str(execution_id), outcome)
            for entry_id, execution_id, outcome in rest.values_list("entry_id", "execution_id", "outcome")[:SHOWN]
        ]
        rows += [(entry_id, "", str(ItemOutcome.MOVED_ON)) for entry_id in left_out[: SHOWN - len(rows)]]
        if rows:
            self.stdout.write(f"{'ENTRY':>8}  {'EXECUTION':>9}  OUTCOME")
        for entry_id, execution_id, outcome in rows:
            self.stdout.write(f"{entry_id:>8}  {execution_id:>9}  {outcome}")
        hidden = batch.matched - batch.counts.get(self.done, 0) + len(left_out) - len(rows)
        if hidden:
            self.stdout.write(f"and {hidden:,} more; GET /api/v1/dead-letters/batches/{batch.pk}/results/ has them all")
        self._report_counts(batch, len(left_out))
        if batch.counts.get(self.done, 0) != batch.matched + len(left_out):
            sys.exit(NOT_ALL)

    def _report_counts(self, batch: DeadLetterBatch, left_out: int = 0) -> None:
        counts = dict(batch.counts)
        if left_out:
            counts[ItemOutcome.MOVED_ON] = counts.get(ItemOutcome.MOVED_ON, 0) + left_out
        if waiting := batch.matched - batch.done:
            counts[ItemOutcome.WAITING] = waiting
        for outcome in ItemOutcome.values:
            if outcome in counts:
                self.stdout.write(f"{counts[outcome]:>8,}  {outcome:<15}  {WORDS[outcome]}")
        self.stdout.write(
            f"{batch.counts.get(self.done, 0):,} of {batch.matched + left_out:,} {self.done}"
            f"{'; cancelled' if batch.state == BatchState.CANCELLED else ''} (batch {batch.pk})."
        )


def _selection(options: dict[str, Any]) -> Selection:
    filtered = options["reason"] is not None or options["fingerprint"] is not None
    if sum((bool(options["ids"]), options["all"], filtered)) != 1:
        raise CommandError(
            "Say which: numbers of entries, or --reason and --fingerprint, or --all; one of the three.",
            returncode=REFUSED,
        )
    ids = tuple(dict.fromkeys(options["ids"])) or None
    return Selection(ids=ids, reason=options["reason"], fingerprint=options["fingerprint"])


def _line(row: DeadLetter, title: str) -> str:
    error = (row.error.splitlines() or [""])[0]
    return f"{row.pk:>8}  {row.execution_id:>9}  {row.reason:<18}  {title[:30]:<30}  {error[:60]}".rstrip()


def _pace(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= FASTEST:
        raise argparse.ArgumentTypeError(f"a whole number from 1 to {FASTEST}, please")
    return int(text)
