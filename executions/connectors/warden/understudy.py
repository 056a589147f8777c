"""The keeper's understudy: a second process that ends the commands when the keeper can not.

A worker that is frozen stops nothing; its keeper does. But a keeper can be killed, or frozen as well, just then: by a
lack of memory, or by whoever stops processes by their name. So the keeper forks this one at its start, which does
nothing but listen to a pipe. It learns of every run before it begins, and until when the worker may run commands. The
end of the pipe is the keeper's death; a moment that passes without news of a later one is its silence. Both times
everything that is known is killed. It takes three processes to fail at once now for a command to live on.

Lines on the pipe are JSON: {"run": marker, "pid": n, "ticks": n} begins or corrects one (pid -1: not known yet),
{"over": marker} ends it, {"until": CLOCK_MONOTONIC seconds}.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time

TYPE_CHECKING = False  # as in keeper.py
if TYPE_CHECKING:
    from executions.connectors.warden.process_table import Runs, kill_until_gone
else:
    from process_table import kill_until_gone

# The keeper itself acts at once when the right ends. This is what it gets before somebody else does.
SILENCE_SECONDS = 0.2
_KILL_PATIENCE_SECONDS = 5.0


class Understudy:
    """The keeper's side: tells what there is to know, and replaces an understudy that is gone or does not read."""

    def __init__(self) -> None:
        self._runs: dict[str, tuple[int, int]] = {}
        self._until: float | None = None
        self._start()

    def begins(self, marker: str, pid: int = -1, ticks: int = 0) -> None:
        self._runs[marker] = (pid, ticks)
        self._tell({"run": marker, "pid": pid, "ticks": ticks})

    def is_over(self, marker: str) -> None:
        if self._runs.pop(marker, None) is not None:
            self._tell({"over": marker})

    def may_run_until(self, until: float) -> None:
        self._until = until
        self._tell({"until": until})

    def look_after(self) -> None:
        """Start another one when this one has died. To be called when a child has."""
        if os.waitpid(self._pid, os.WNOHANG)[0]:
            os.close(self._pipe)
            self._start()

    def _start(self) -> None:
        source, self._pipe = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            try:
                _forget_the_keeper(source)
                _stand_by(source, dict(self._runs), self._until)
            finally:
                os._exit(0)
        os.close(source)
        os.set_blocking(self._pipe, False)

    def _tell(self, news: dict[str, object]) -> None:
        try:
            os.write(self._pipe, json.dumps(news).encode() + b"\n")  # a short line is written whole or not at all
        except OSError:  # it died, or is frozen and the pipe is full
            os.close(self._pipe)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._start()


def _forget_the_keeper(source: int) -> None:
    """What is open belongs to the keeper: others must see its end when it ends, not when this process does."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    highest = os.sysconf("SC_OPEN_MAX")
    os.closerange(3, source)
    os.closerange(source + 1, min(highest, 65_536) if highest > 0 else 65_536)


def _stand_by(source: int, runs: Runs, until: float | None) -> None:
    received = b""
    poll = select.poll()
    poll.register(source, select.POLLIN)
    while True:
        wait = None if until is None else max(0.0, until + SILENCE_SECONDS - time.monotonic()) * 1000 + 1
        if not poll.poll(wait):
            kill_until_gone(runs, _KILL_PATIENCE_SECONDS)
            until = None
            continue
        data = os.read(source, 65_536)
        if not data:
            kill_until_gone(runs, _KILL_PATIENCE_SECONDS)
            return
        *lines, received = (received + data).split(b"\n")
        for line in lines:
            news = json.loads(line)
            if "run" in news:
                runs[news["run"]] = (news["pid"], news["ticks"])
            elif "over" in news:
                runs.pop(news["over"], None)
            else:
                until = news["until"]
