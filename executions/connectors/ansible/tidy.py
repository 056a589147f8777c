"""Removes from the targets what a run put there, over the connections that ansible left open. A program of its own,
guarded by the warden.

A task's module stands with its arguments, and so with secrets among them, in a file on the target while it runs; a task
that is killed leaves it. Each target of a run has a folder of the run's own for these (`name_at`), so that what is
removed is never another's. Standard input is {"sockets", "run"}: the folder of the sockets through which ssh shares
connections, and what the names of the run's folders begin with. Standard output is the place of each target where one
was removed.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

BESIDE = ".ansible"  # below the home of who signs in there, as ansible's own
PREFIX = "opsconductor-"
PATIENCE_SECONDS = 4.0  # for all of them together; the connector waits for no longer than a little more
_AT_ONCE = 20

# For whichever login shell: no single quote, backslash, line end or exclamation mark. Twice, since what was killed may
# have been making it. Then what runs left whose worker was lost: no step may take more than seven days.
_REMOVE = (
    'cd "$HOME/{beside}" || exit 0; for t in 1 2; do for d in {run}-*; do'
    ' [ -d "$d" ] && rm -rf "$d" && echo "${{d##*-}}"; done; [ $t = 2 ] || sleep 0.2; done;'
    " for d in {prefix}*; do"
    ' [ -d "$d" ] && find "$d" -prune -mtime +7 -exec rm -rf "{{}}" +; done; exit 0'
)
_RUN = re.compile(rf"{PREFIX}[A-Za-z0-9]+")


def name_of(token: str) -> str:
    """What the names of the folders of a run begin with."""
    return f"{PREFIX}{token}"


def name_at(run: str, place: int) -> str:
    """The folder of a run on the target at this place, as ansible is told of it."""
    return f"$HOME/{BESIDE}/{run}-{place}"


def removed(sockets: Path, run: str) -> Iterator[int]:
    """Remove the folders of a run wherever a connection is open; yield the places of those that were there."""
    ssh = shutil.which("ssh")
    open_ones = [path for path in sockets.glob("*") if path.is_socket()]
    if ssh is None or not _RUN.fullmatch(run):
        return
    script = _REMOVE.format(beside=BESIDE, run=run, prefix=PREFIX)

    def remove(socket: Path) -> str:
        # It goes through the socket or nowhere: should nobody be behind it, no connection is made.
        command = [
            ssh, "-F", "none", "-S", str(socket), "-oControlMaster=no", "-oBatchMode=yes", "-oProxyCommand=false",
            "-oLogLevel=QUIET", "-T", "--", "no-target-of-this-step.invalid", f"exec /bin/sh -c '{script}'",
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_SECONDS, check=False
            )
        except (subprocess.TimeoutExpired, OSError):
            return ""
        return done.stdout.decode(errors="replace")

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for said in threads.map(remove, open_ones):
            yield from (int(word) for word in said.split() if word.isdecimal() and len(word) < 10)


def main() -> None:
    asked = json.load(sys.stdin)
    for place in removed(Path(asked["sockets"]), asked["run"]):
        print(place, flush=True)


if __name__ == "__main__":
    main()
