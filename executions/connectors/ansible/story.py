"""What a playbook's events say of one machine: lines for its output as they come, and at the end an outcome."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from executions.connectors.ansible.files import END_TASK, NO_TARGET_HOST
from executions.connectors.base import ErrorCode, Outcome, Stream

FAILED = 2  # as ansible-playbook ends when a machine failed

_LONGEST_SENTENCE = 600

# What ssh says, in a line of its own, when it did not get as far as running anything. All else leaves that open.
_NOTHING_RAN = (
    (re.compile(rf"^ssh: Could not resolve hostname {NO_TARGET_HOST}", re.M), ErrorCode.ADDRESS_NOT_ALLOWED),
    (re.compile(r"^Host key verification failed\.", re.M), ErrorCode.HOST_KEY_CHANGED),
    (re.compile(r"^(\S+: )?Permission denied \([a-z,-]+\)\.", re.M), ErrorCode.AUTHENTICATION_FAILED),
    (re.compile(r"^Received disconnect .*Too many authentication failures", re.M), ErrorCode.AUTHENTICATION_FAILED),
    (re.compile(r"^ssh: connect to host \S+ port \d+: Connection refused", re.M), ErrorCode.CONNECTION_REFUSED),
    (re.compile(r"^ssh: (Could not resolve hostname|connect to host) ", re.M), ErrorCode.UNREACHABLE),
    (re.compile(r"^kex_exchange_identification: |^Connection timed out during banner exchange", re.M),
     ErrorCode.UNREACHABLE),
)  # fmt: skip
_PREFIXES = re.compile(r"^(Task failed: )?(Failed to connect to the host via ssh: )?")

_WHAT_TO_DO = {
    ErrorCode.HOST_KEY_CHANGED: "It shows another host key than the one that is pinned: it was set up anew, or it is "
    "another machine. Find out which, and pin the new key.",
    ErrorCode.AUTHENTICATION_FAILED: "It does not let the user in: look at the credential, and at the user there.",
    ErrorCode.CONNECTION_REFUSED: "Nothing listens at its port: look at the port in the inventory, and at its sshd.",
    ErrorCode.ADDRESS_NOT_ALLOWED: "The playbook wanted to run a task on a host that is no target of the step "
    "(delegate_to, add_host), which was left alone: make that host a target, or take the task out.",
    ErrorCode.UNREACHABLE: "It could not be connected to: look at its address, at the network, and whether it is up.",
    ErrorCode.CONNECTION_LOST: "The connection broke in the middle of the playbook: nobody knows how far it came.",
}


@dataclass(slots=True)
class Story:
    """One machine in one run."""

    tasks: int = 0  # that it came to, beside gathering facts
    acted: bool = False  # something ran on it to its end
    in_flight: bool = False  # something runs there now, as far as is known
    begun: bool = False  # something was begun there
    at_end: bool = False  # it went through the whole playbook
    failed_at: str = ""
    failed_with: str = ""
    lost_with: str | None = None
    stats: dict[str, int] = field(default_factory=dict)

    def hear(self, event: Mapping[str, Any]) -> Iterator[tuple[Stream, str]]:
        """Take one event in, and give out the lines to be shown of it."""
        kind, task = event["kind"], str(event.get("task", ""))
        if task == END_TASK:
            self.at_end = self.at_end or kind == "ok"
            return
        if kind == "start":
            self.in_flight = self.begun = True
            return
        if kind in ("ok", "failed", "skipped", "unreachable"):
            self.in_flight = False
            self.tasks += event.get("action") != "gather_facts"
            self.acted = self.acted or kind in ("ok", "failed")
        if kind == "unreachable":
            self.lost_with = str(event.get("msg", ""))
        if kind == "failed" and not event.get("ignored"):
            self.failed_at, self.failed_with = task, _message_of(event)
        yield from _lines_of(event, kind, task)

    def outcome(self) -> Outcome:
        """The outcome once ansible-playbook has ended by itself and counted."""
        counts = {name: self.stats.get(name, 0) for name in ("ok", "changed", "skipped", "rescued", "ignored")}
        counts["ok"] = max(0, counts["ok"] - self.at_end)
        counts["failed"] = self.stats.get("failures", 0)
        data: dict[str, object] = dict(counts)
        if self.stats.get("dark"):
            return self._unreachable(data)
        if counts["failed"]:
            where = f"The task {self.failed_at!r} failed" if self.failed_at else "A task failed"
            return Outcome(FAILED, None, _sentence(where, self.failed_with), data=data)
        if not self.at_end:
            sentence = (
                "The playbook was broken off because of other hosts (any_errors_fatal, max_fail_percentage or serial) "
                "before this one was through it."
            )
            return Outcome(FAILED, None, sentence if self.begun else f"{sentence} No task ran on it.", data=data)
        if not self.tasks:
            sentence = (
                "The playbook has no task for this host: none ran. Its plays are for other hosts (write hosts: all, or "
                "the asset's name), or the tags select nothing."
            )
            return Outcome(None, ErrorCode.INVALID_INVOCATION, sentence, data=data)
        return Outcome(0, data=data)

    def _unreachable(self, data: dict[str, object]) -> Outcome:
        said = _PREFIXES.sub("", self.lost_with or "")
        code = next((code for pattern, code in _NOTHING_RAN if pattern.search(said)), ErrorCode.CONNECTION_LOST)
        sentence = _sentence(_WHAT_TO_DO[code], said.strip().rpartition("\n")[2])
        if self.acted and code != ErrorCode.CONNECTION_LOST:
            # The last task did nothing, but those before it did what they did: the target is not as it was.
            sentence = f"After tasks that ran on it, it could not be reached any more. {sentence}"
            return Outcome(FAILED, None, sentence, data=data)
        return Outcome(None, code, sentence, data=data)


def _message_of(event: Mapping[str, Any]) -> str:
    if event.get("censored"):
        return "its result is hidden (no_log)"
    said = str(event.get("msg", ""))
    detail = str(event.get("stderr") or event.get("module_stderr") or "").strip()
    if "module_stderr" in event:
        return f"{said} {detail}"
    return f"{said} ({detail.splitlines()[-1]})" if detail and said == "non-zero return code" else said


def _sentence(subject: str, said: str) -> str:
    words = " ".join(said.split())
    if len(words) > _LONGEST_SENTENCE:
        words = f"{words[:_LONGEST_SENTENCE]}..."
    if subject.endswith("."):
        return f"{subject} It said: {words}" if words else subject
    return f"{subject}: {words}" if words else f"{subject}."


def _lines_of(event: Mapping[str, Any], kind: str, task: str) -> Iterator[tuple[Stream, str]]:
    if kind == "diff":
        yield "stdout", _ended(str(event.get("diff", "")).strip("\n"))
        return
    item = f" [{event['item']}]" if "item" in event else ""
    word = "changed" if event.get("changed") and kind in ("ok", "item_ok") else kind.removeprefix("item_")
    if event.get("ignored"):
        word = "failed, ignored"
    bad = word in ("failed", "unreachable", "failed_later")
    yield "stderr" if bad else "stdout", f"{word.replace('_', ' ')}: {task}{item}\n"
    if event.get("censored"):
        yield "stdout", "  (hidden: no_log)\n"
        return
    if event.get("too_long"):
        yield "stdout", "  (its result is too long to be shown)\n"
        return
    if event.get("is_loop"):  # what there is to show was shown with its items
        return
    if event.get("stdout"):
        yield "stdout", _ended(str(event["stdout"]))
    if event.get("stderr"):
        yield "stderr", _ended(str(event["stderr"]))
    if event.get("module_stderr"):
        yield "stderr", _ended(str(event["module_stderr"]))
    if event.get("msg") and (bad or word == "failed, ignored" or event.get("action") in ("debug", _DEBUG)):
        yield "stderr" if bad else "stdout", _ended(str(event["msg"]))


_DEBUG = "ansible.builtin.debug"


def _ended(text: str) -> str:
    return text if text.endswith("\n") or not text else f"{text}\n"
