"""What an answer of the automation service, or the lack of one, says of a command."""

from __future__ import annotations

import signal
from dataclasses import replace

from executions.clients.automation import ExecuteAnswer
from executions.clients.troubles import AnswerLost, BadAnswer, Declined, NotReached, ServiceTrouble
from executions.clients.words import ending_of, is_placeholder
from executions.connectors.base import ErrorCode, Outcome, Target

LONGEST_SAID = 500
LARGEST_SIGNAL = 64  # what is further below zero is a code of Windows

_OF_STATUS = {
    400: ErrorCode.INVALID_INVOCATION,
    401: ErrorCode.AUTHENTICATION_FAILED,
    403: ErrorCode.AUTHENTICATION_FAILED,
    422: ErrorCode.INVALID_INVOCATION,
    429: ErrorCode.UNREACHABLE,
}
_OF_TROUBLE = {
    "refused": ErrorCode.CONNECTION_REFUSED,
    "unreachable": ErrorCode.UNREACHABLE,
    "breaker": ErrorCode.UNREACHABLE,
    "tls": ErrorCode.TLS_FAILED,
}


def outcome_of(answer: ExecuteAnswer, connection: str) -> Outcome:
    """Judge by the exit code, which alone is evidence; the status has to agree where it says that all is well.

    `connection`: how the machine is reached. Windows knows no signals; its negative codes are plain ones.
    """
    ending, code = ending_of(answer.status), answer.exit_code
    if code in (0, None) and _is_all_placeholder(answer):
        return _of(answer, ErrorCode.NOT_SUPPORTED, "This version of the automation service did not run the command:")
    if ending == "skipped":
        return _of(answer, ErrorCode.NOT_SUPPORTED, "The automation service skipped the command; it did not run.")
    if code is None:
        return _without_code(answer)
    if code == 0 and ending != "succeeded":
        return _of(
            answer,
            ErrorCode.INVALID_ANSWER,
            f"The automation service says exit code 0 and status {answer.status[:60]!r}, which contradict each other.",
        )
    if -LARGEST_SIGNAL <= code < 0 and connection != "powershell":
        name = signal.Signals(-code).name if -code in set(signal.Signals) else "no name"
        sentence = f"The command was ended by signal {-code} ({name})."
        return Outcome(128 - code, ErrorCode.KILLED_BY_SIGNAL, sentence, None, _facts(answer))
    return Outcome(code, data=_facts(answer))


def _is_all_placeholder(answer: ExecuteAnswer) -> bool:
    """Whether the whole answer says that the command was not run. Beside anything else it is the command's own text."""
    said = [text for text in (answer.stdout, answer.stderr, answer.error_message) if text.strip()]
    return bool(said) and all(map(is_placeholder, said))


def _without_code(answer: ExecuteAnswer) -> Outcome:
    """It timed out over there, or the connection to the machine failed, before it began or in the middle of it.

    Which of them is told in prose only. "Connection refused" is also what is said when a silent command restarts the
    machine and the service looks for its end; so whatever it says, nobody knows.
    """
    return _of(answer, ErrorCode.NO_ANSWER, "The automation service saw no end of the command, which may still run:")


def _of(answer: ExecuteAnswer, code: ErrorCode, sentence: str) -> Outcome:
    said = (answer.error_message or answer.stderr or answer.stdout).strip()[:LONGEST_SAID]
    whole = f"{sentence} {said or 'it does not say why.'}" if sentence.endswith(":") else sentence
    return Outcome(None, code, whole, None, _facts(answer))


def _facts(answer: ExecuteAnswer) -> dict[str, object]:
    facts: dict[str, object] = {"automation_execution_id": answer.execution_id[:120], "status": answer.status[:60]}
    if answer.duration_seconds is not None:
        facts["duration_seconds"] = answer.duration_seconds
    return facts


def outcome_of_trouble(trouble: ServiceTrouble) -> Outcome:
    """Return what trouble with the service means for the command: not begun, or nobody knows."""
    if isinstance(trouble, NotReached):
        return Outcome(None, _OF_TROUBLE[trouble.why], f"{trouble.message} Nothing was sent.")
    if isinstance(trouble, Declined):
        code = _OF_STATUS.get(trouble.status, ErrorCode.NOT_SUPPORTED)
        return Outcome(None, code, f"{trouble.message} It did not take the command.")
    lost = isinstance(trouble, AnswerLost) or not isinstance(trouble, BadAnswer)
    code = ErrorCode.NO_ANSWER if lost else ErrorCode.INVALID_ANSWER
    return Outcome(None, code, f"{trouble.message} Whether the command ran, and runs, is not known.")


def found_by_probe(answer: ExecuteAnswer, target: Target) -> Outcome:
    """Return what an answer to a command that does nothing says of the machine.

    One that does nothing restarts no machine: without an exit code, the service did not get there.
    """
    outcome = outcome_of(answer, target.connection)
    if outcome.error_code == ErrorCode.NO_ANSWER:
        said = (answer.error_message or answer.stderr).strip()[:LONGEST_SAID] or "it does not say why."
        return replace(
            outcome,
            error_code=ErrorCode.UNREACHABLE,
            error=f"The automation service could not reach {target.name}, or sign in there: {said}",
        )
    return outcome


def silent_probe(target: Target, seconds: float, *, was_sent: bool = True) -> Outcome:
    """Return what it means that the automation service has not said in time whether it reaches a machine."""
    if not was_sent:
        return Outcome(None, ErrorCode.START_FAILED, f"The automation service took no request within {seconds:g} s.")
    return Outcome(
        None, ErrorCode.UNREACHABLE, f"The automation service did not reach {target.name} within {seconds:g} s."
    )


def probe_not_begun(trouble: ServiceTrouble) -> Outcome:
    """Return what trouble with the service says of the machine: nothing."""
    return Outcome(
        None, ErrorCode.START_FAILED, f"{trouble.message} Nobody knows from that how the machine is: check it again."
    )
