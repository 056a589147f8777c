"""Submit a plan and wait for its outcome."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from django.db import InterfaceError, OperationalError

from executions import outcome
from executions.live.following import follow
from executions.live.lines import LiveLines, visible
from executions.management.acting_user import NoSuchUser, acting_user, add_acting_user
from executions.services import Accepted, Refused, Submission, submit
from executions.states import FINAL_EXECUTION, ExecutionStatus
from safety.management.example_help import ExampleCommand

SUCCEEDED, ENDED_OTHERWISE, REFUSED, WAITS_FOR_APPROVAL, STILL_GOING = range(5)
SHOWN_ERROR_LINES = 5


class Command(ExampleCommand):
    help = "Submits a plan, JSON or YAML, and waits until it has ended. Ctrl-C stops waiting, never the execution."
    example = """\
  manage.py run_plan examples/plans/host-health.yaml --follow
  manage.py run_plan plan.yaml --check --follow
  manage.py run_plan plan.json --json --wait 60 --as alice
  generate_plan | manage.py run_plan - --idempotency-key 2c9e1f0a

exit status:
  0  succeeded
  1  ended otherwise, or needs attention
  2  refused: nothing was run
  3  waits for approval
  4  still going after --wait, or after Ctrl-C
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", help="the plan; - reads standard input")
        parser.add_argument("--check", action="store_true", help="say what would change, and change nothing")
        parser.add_argument("--follow", action="store_true", help="show events and output as they come")
        parser.add_argument("--json", action="store_true", help="print the outcome as one JSON object at the end")
        parser.add_argument("--wait", type=float, metavar="N", help="wait at most N seconds (until it has ended)")
        parser.add_argument("--idempotency-key", metavar="K", help="the same key and plan again: the same execution")
        add_acting_user(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        self.stderr.style_func = None  # most of what goes there is no error
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")  # a terminal of few characters is no reason to fail
        try:
            accepted = self._submit(options)
        except Refused as refused:
            self._refuse(refused.problems(), options)
            raise SystemExit(REFUSED) from None
        self._follow(accepted, options)
        try:
            result = outcome.read_outcome(accepted.execution_id)
        except (OperationalError, InterfaceError):
            self.stderr.write(
                f"The database cannot be reached. Execution {accepted.execution_id} was accepted and is kept."
            )
            raise SystemExit(STILL_GOING) from None
        if options["json"]:
            self._print_json(result)
        else:
            self._print_outcome(result)
        raise SystemExit(_exit_status(result["status"]))

    # --- submitting

    def _submit(self, options: dict[str, Any]) -> Accepted:
        """Raises Refused, also for what keeps the plan from being read at all."""
        if options["wait"] is not None and not 0 <= options["wait"] < float("inf"):
            raise _refusal("invalid_option", "--wait", "--wait must be a number of seconds.", "Give 60, for example.")
        document = _read(options["file"])
        try:
            user = acting_user(options)
            wanted = Submission(document, idempotency_key=options["idempotency_key"], check=options["check"])
            accepted = submit(wanted, by=user)
        except NoSuchUser as error:
            raise _refusal("unknown_user", "--as", str(error), "Choose the user with --as.") from None
        except (OperationalError, InterfaceError) as error:
            raise _refusal(
                "database_unreachable",
                "",
                f"The database cannot be reached: {str(error).splitlines()[0]}.",
                "Start the installation (`make serve`), or check DATABASE_URL.",
            ) from None
        again = " (the same request was made before)" if accepted.replay else ""
        self.stderr.write(f"execution {accepted.execution_id}, {accepted.status.replace('_', ' ')}{again}")
        return accepted

    def _refuse(self, errors: Sequence[dict[str, Any]], options: dict[str, Any]) -> None:
        for error in errors:
            where = f"{error['path']}: " if error["path"] else ""
            candidates = f" Candidates: {', '.join(error['candidates'])}." if error.get("candidates") else ""
            message = f"{error['code']}: {where}{error['message']} {error['how_to_fix']}{candidates}"
            self.stderr.write(self.style.ERROR(visible(message)))
        count = "1 problem" if len(errors) == 1 else f"{len(errors)} problems"
        self.stderr.write(f"refused: {count}; nothing was run")
        if options["json"]:
            self._print_json(outcome.refused(errors))

    # --- waiting

    def _follow(self, accepted: Accepted, options: dict[str, Any]) -> None:
        """Wait. With --json the live lines go to stderr: stdout holds the object alone."""
        out = self.stderr if options["json"] else self.stdout
        colours = (out.isatty() and not options["no_color"] and "NO_COLOR" not in os.environ) or options["force_color"]
        lines = LiveLines(out, colours=colours)
        try:
            follow(
                accepted.execution_id,
                timeout_seconds=options["wait"],
                remark=self.stderr.write,
                show=lines.show if options["follow"] else None,
            )
        except KeyboardInterrupt:
            self.stderr.write(
                f"\nNo longer waiting. Execution {accepted.execution_id} goes on; to stop it:"
                f" manage.py cancel_executions {accepted.execution_id} --reason ..."
            )
        finally:
            lines.close()

    # --- showing

    def _print_json(self, result: outcome.Outcome) -> None:
        self.stdout.write(json.dumps(result))

    def _print_outcome(self, result: outcome.Outcome) -> None:
        for step in result["steps"]:
            kind = " (rollback)" if step["kind"] == "rollback" else ""
            self.stdout.write(f"  {step['status']:<10} {visible(step['id'])}{kind}")
            for target in step["targets"]:
                self._print_target(target, alone=len(step["targets"]) == 1)
        words = result["status"].replace("_", " ")
        style = self.style.SUCCESS if result["status"] == ExecutionStatus.SUCCEEDED else self.style.WARNING
        reason = f": {visible(result['reason'])}" if result.get("reason") else ""
        self.stdout.write(style(f"execution {result['id']} {words}") + reason)

    def _print_target(self, target: outcome.TargetOutcome, *, alone: bool) -> None:
        bad = target["status"] in ("failed", "timed_out", "unknown", "cancelled")
        if alone and not bad:
            return
        code = "" if target["exit_code"] is None else f", exit code {target['exit_code']}"
        error = f": {visible(target['error'])}" if target["error"] else ""
        self.stdout.write(f"             {visible(target['target'] or '-')} {target['status']}{code}{error}")
        if bad:
            for line in target["stderr"].splitlines()[-SHOWN_ERROR_LINES:]:
                self.stdout.write(f"             ! {visible(line)}")


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        message = f"{file} cannot be read: {error.strerror}."
        raise _refusal("unreadable_file", "", message, "Give the path of a plan, or - for standard input.") from None


def _refusal(code: str, path: str, message: str, how_to_fix: str) -> Refused:
    error = {"code": code, "path": path, "message": message, "how_to_fix": how_to_fix}
    return Refused(code, message, how_to_fix, status=422, errors=[error])


def _exit_status(status: str) -> int:
    if status == ExecutionStatus.SUCCEEDED:
        return SUCCEEDED
    if status == ExecutionStatus.PENDING_APPROVAL:
        return WAITS_FOR_APPROVAL
    if status in FINAL_EXECUTION or status == ExecutionStatus.NEEDS_ATTENTION:
        return ENDED_OTHERWISE
    return STILL_GOING
