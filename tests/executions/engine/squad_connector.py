"""A connector for tests that takes all its targets as one run, as Ansible does: one real process for all of them.

The command of the invocation is started once, with the names of the targets as TARGETS and how many may be worked at at
the same time as AT_ONCE. What it prints is what Ansible's events are: `NAME says TEXT`, `NAME exits CODE`,
`NAME is CODE_OF_AN_ERROR`; anything else is nobody's. When it ends, so does the run, whoever has been told of.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Sequence

from executions.connectors.base import ErrorCode, Invocation, Outcome, OutputSink, Stop, Target
from executions.connectors.registry import Surroundings

REACHES = [("command", "squad")]


class Squad:
    async def run_group(
        self,
        invocation: Invocation,
        targets: Sequence[Target],
        *,
        sinks: Sequence[OutputSink],
        stop: Stop,
        fence: int,
        on_outcome: Callable[[int, Outcome], None],
    ) -> None:
        places = {target.name: place for place, target in enumerate(targets)}
        process = await asyncio.create_subprocess_exec(
            *invocation.argv,
            stdout=asyncio.subprocess.PIPE,
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            env={
                "PATH": os.environ["PATH"],
                "TARGETS": " ".join(places),
                "AT_ONCE": str(invocation.at_once),
                "PASSWORDS": " ".join(target.credential.password for target in targets if target.credential),
            },
        )
        assert process.stdout is not None
        asked = asyncio.ensure_future(stop.wait())
        asked.add_done_callback(lambda _: None if asked.cancelled() else os.killpg(process.pid, signal.SIGKILL))
        try:
            async for line in process.stdout:
                name, verb, *words = line.decode().split()
                if verb == "says":
                    written = sinks[places[name]].write("stdout", f"{' '.join(words)}\n".encode())
                    if written is not None:
                        await written
                elif verb == "exits":
                    on_outcome(places.pop(name), Outcome(int(words[0])))
                elif verb == "is":
                    on_outcome(places.pop(name), Outcome(None, ErrorCode(words[0]), f"{name} is {words[0]}."))
            await process.wait()
        finally:
            asked.cancel()

    async def close(self) -> None:
        return


def make(surroundings: Surroundings) -> Squad:
    return Squad()
