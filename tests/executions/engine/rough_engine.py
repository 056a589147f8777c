"""The engine, with bugs: it does to its process what the first step of an execution is called."""

from __future__ import annotations

import os
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from executions.engine.entry import Engine
from executions.engine.run import ExecutionRun

GROWTH_BYTES = 300 * 1024 * 1024


class RoughEngine(Engine):
    """Each once: `blocks` stands still, `grows` keeps memory, `breaks` raises where nothing of the engine catches."""

    def upkeep(self) -> None:
        if (Path(os.environ["ROUGH_FOLDER"]) / "upkeep-fails").exists():
            raise RuntimeError("a bug in what keeps the queue up")
        super().upkeep()

    def _run(self, run: ExecutionRun) -> Coroutine[Any, Any, bool]:
        return self._run_roughly(run.state.steps[0].key, super()._run(run))

    async def _run_roughly(self, key: str, coroutine: Coroutine[Any, Any, bool]) -> bool:
        done = Path(os.environ["ROUGH_FOLDER"]) / key
        if not done.exists():
            if key in ("blocks", "grows", "breaks"):
                done.touch()
            if key == "blocks":
                time.sleep(600)  # noqa: ASYNC251
            if key == "grows":
                self._kept = os.urandom(1024) * (GROWTH_BYTES // 1024)
            if key == "breaks":
                coroutine.close()
                raise RuntimeError("a bug")
        return await coroutine
