"""Runs one playbook with ansible-runner and tells of it as JSON lines. A program of its own, guarded by the warden.

Standard input is {"folder", "arguments", "keys"}: the run's private folder, the words for ansible-playbook after its
name, and private keys without passphrase, which go to an agent of the run's own and into no file. Standard output is
one object a line; the last says how ansible-playbook ended, and if it is missing nobody knows.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ansible_runner

# Of one text of one event; the command's whole output is not the place for more. A line has at most eight such texts,
# of up to six bytes a character: run.py takes no longer one for ours.
MOST_CHARACTERS = 256 * 1024
AGENT_PATIENCE_SECONDS = 5.0

# event of ansible-runner -> what it is here
HOST_EVENTS = {
    "runner_on_start": "start",
    "runner_on_ok": "ok",
    "runner_on_failed": "failed",
    "runner_on_skipped": "skipped",
    "runner_on_unreachable": "unreachable",
    "runner_item_on_ok": "item_ok",
    "runner_item_on_failed": "item_failed",
    "runner_item_on_skipped": "item_skipped",
    "runner_retry": "retry",
    "runner_on_file_diff": "diff",
    "runner_on_async_failed": "failed_later",
}
# What ansible-playbook says that is about no host: errors that end it come line by line as "verbose".
GENERAL_EVENTS = frozenset({"verbose", "error", "warning", "system_warning", "playbook_on_no_hosts_matched"})
OVER_A_TERMINAL = frozenset(f"{prefix}{name}" for prefix in ("", "ansible.builtin.") for name in ("raw", "script"))
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Teller:
    """Writes to what was standard output; whatever else prints there meanwhile goes to standard error."""

    def __init__(self) -> None:
        # What is no text becomes \\udcXX, which in JSON is the same half of a character again.
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
        os.dup2(2, 1)

    def tell(self, **news: object) -> None:
        self._out.write(json.dumps(news, ensure_ascii=False) + "\n")
        self._out.flush()

    def event(self, event: Mapping[str, Any]) -> bool:
        """For ansible-runner, which keeps no file of an event when this is False."""
        kind, data = event.get("event", ""), event.get("event_data") or {}
        if kind in HOST_EVENTS and isinstance(data.get("host"), str):
            self.tell(kind=HOST_EVENTS[kind], host=data["host"], **_of_a_host(event, data))
        elif kind == "playbook_on_play_start":
            self.tell(kind="play", name=_cut(data.get("name")))
        elif kind == "playbook_on_stats":
            names = ("ok", "changed", "failures", "dark", "skipped", "rescued", "ignored")
            self.tell(kind="stats", stats={name: data.get(name) or {} for name in names})
        elif kind in GENERAL_EVENTS and (text := COLOUR.sub("", _cut(event.get("stdout"))).strip()):
            self.tell(kind="general", text=text)
        return False


def _of_a_host(event: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, object]:
    result = data.get("res")
    result = result if isinstance(result, dict) else {}
    told: dict[str, object] = {"task": _cut(data.get("task")), "action": _cut(data.get("task_action"))}
    if result == {} and event.get("event") in ("runner_on_ok", "runner_on_failed"):
        told["too_long"] = True  # ansible-runner hands on no result of more than MAX_EVENT_RES characters
    if data.get("ignore_errors"):
        told["ignored"] = True
    if result.get("changed"):
        told["changed"] = True
    if "censored" in result:
        return {**told, "censored": True}
    over_a_terminal = data.get("task_action") in OVER_A_TERMINAL
    for name in ("stdout", "stderr", "msg", "module_stderr"):
        if text := _cut(result.get(name)):
            told[name] = text.replace("\r\n", "\n") if over_a_terminal else text
    for failed in (result.get("failed_modules") or {}).values():  # of gathering facts, which says no more itself
        told["module_stderr"] = _cut(failed.get("module_stderr") or failed.get("msg"))
    if isinstance(result.get("rc"), int):
        told["rc"] = result["rc"]
    if isinstance(result.get("results"), list):
        told["is_loop"] = True
    label = result.get("_ansible_item_label", result.get("item"))
    if label is not None:
        told["item"] = _cut(label)[:200]
    if event.get("event") == "runner_on_file_diff":
        told["diff"] = _cut(event.get("stdout")).replace("\r\n", "\n")  # it came over a terminal
    return told


def _cut(value: object) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    if len(text) > MOST_CHARACTERS:
        return f"{text[:MOST_CHARACTERS]}\n[{len(text) - MOST_CHARACTERS} more characters of this result are not kept]"
    return text


@contextlib.contextmanager
def agent_with(keys: Sequence[str], socket: str) -> Iterator[None]:
    """An SSH agent that holds the keys while this lasts. Without keys there is none."""
    if not keys:
        yield
        return
    agent = subprocess.Popen(
        [_program("ssh-agent"), "-D", "-a", socket],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + AGENT_PATIENCE_SECONDS
        while not os.path.exists(socket) and agent.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        for key in keys:
            added = subprocess.run(
                [_program("ssh-add"), "-q", "-"],
                input=key.encode(),
                env={**os.environ, "SSH_AUTH_SOCK": socket},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                check=False,
            )
            if added.returncode:
                raise RuntimeError(f"The run's SSH agent did not take a key: {added.stderr.decode(errors='replace')}")
        yield
    finally:
        agent.terminate()
        agent.wait()


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"There is no {name} on the worker's host; playbooks need OpenSSH's client there.")
    return found


def main() -> None:
    teller = Teller()
    stopping: list[bool] = []
    # Told to end, ansible-playbook is told too, by the warden: what it still says is read before this ends.
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    asked = json.load(sys.stdin)
    folder = Path(asked["folder"])
    entry = Path(__file__).with_name("entry.py")
    try:
        with agent_with(asked["keys"], str(folder / "agent")):
            run = ansible_runner.run(
                private_data_dir=str(folder),
                binary=sys.executable,
                cmdline=shlex.join(["-I", str(entry), *asked["arguments"]]),
                quiet=True,
                settings={"suppress_output_file": True, "pexpect_timeout": 1},
                event_handler=teller.event,
                cancel_callback=lambda: bool(stopping),
            )
            teller.tell(kind="end", rc=run.rc, status=run.status)
    except Exception as error:
        teller.tell(kind="broken", text=f"{type(error).__name__}: {error}"[:2000])
        raise


if __name__ == "__main__":
    main()
