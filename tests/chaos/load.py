"""The known load: plans of one to four steps on a set of assets, each of a kind whose outcome can be judged."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STEP = Path(__file__).with_name("step.sh")

# Of a hundred executions. `change` is the plain case; every kind is there at least once.
KINDS = {
    "change": 42.0,  # exclusive locks
    "read": 20.0,  # shared locks
    "fail": 8.0,  # its last step ends with exit code 3
    "cancel": 12.0,  # is cancelled while a long step runs
    "overrun": 5.0,  # its last step has a time limit that it overruns
    "loud": 12.0,  # prints much
    "poison": 1.0,  # kills the worker that runs it
}
STEP_LIMIT_SECONDS = 60
LONG_TICKS = 240
EXIT_CODE = 3


@dataclass(frozen=True, slots=True)
class Wanted:
    """One execution of the load.

    steps   maps a step's key to whether it may be run again
    writes  whether its steps write marks; False where they touch nothing
    """

    number: int
    kind: str
    document: dict[str, Any]
    priority: int
    steps: dict[str, bool]
    cancel_after_seconds: float | None = None
    writes: bool = True


@dataclass(frozen=True, slots=True)
class Load:
    """Makes the same executions again for the same seed. `marks` is where steps write; `device` the port of reads.

    With `has_machines` every other asset is a machine that is reached over SSH."""

    seed: int
    executions: int
    marks: Path
    device: int
    has_machines: bool = False

    @property
    def assets(self) -> list[str]:
        return [f"asset-{number:02d}" for number in range(max(8, min(60, self.executions // 12)))]

    @property
    def machines(self) -> list[str]:
        return self.assets[1::2] if self.has_machines else []

    def make(self) -> list[Wanted]:
        dice = random.Random(f"load {self.seed}")
        share = self.executions / sum(KINDS.values())
        kinds = [kind for kind, weight in KINDS.items() for _ in range(max(1, round(weight * share)))]
        kinds = (kinds + ["change"] * self.executions)[: self.executions]
        dice.shuffle(kinds)
        return [self._one(number, kind, dice) for number, kind in enumerate(kinds)]

    def _one(self, number: int, kind: str, dice: random.Random) -> Wanted:
        # A few assets are wanted by many, so that there are lines of both readers and writers.
        assets = self.assets[: max(4, len(self.assets) // 6)] if dice.random() < 0.3 else self.assets
        if kind == "poison":  # finds its worker among its own parents
            assets = [asset for asset in assets if asset not in self.machines]
        chosen = dice.sample(assets, dice.choice([1, 1, 1, 2]))
        count = dice.choice([1, 1, 2, 3, 4])
        side_by_side = count > 1 and dice.random() < 0.2
        steps: list[dict[str, Any]] = []
        again: dict[str, bool] = {}
        for position in range(count):
            key, is_last = f"s{position}", position == count - 1
            on = chosen if dice.random() < 0.15 else [dice.choice(chosen)]
            if kind == "read":
                steps.append({**self._read(number, key, on[:1], dice), "id": key})
                again[key] = True
                continue
            idempotent = kind == "poison" or dice.random() < 0.5
            does = kind if is_last or kind in ("loud", "poison") else "change"
            steps.append(
                {
                    "id": key,
                    "tool": "shell",
                    "inputs": {"command": self._command(number, key, does, dice)},
                    "targets": on,
                    "idempotent": idempotent,
                    "timeout_seconds": 1 if does == "overrun" else STEP_LIMIT_SECONDS,
                }
            )
            again[key] = idempotent
        if side_by_side:
            for step in steps:
                step["execution_order"] = 1
        return Wanted(
            number,
            kind,
            {"title": f"chaos {number}", "steps": steps},
            dice.choice([5, 5, 5, 1, 3, 7, 10]),
            again,
            dice.uniform(0.1, 1.5) if kind == "cancel" else None,
        )

    def _command(self, number: int, key: str, does: str, dice: random.Random) -> str:
        work = f"work {LONG_TICKS if does in ('cancel', 'overrun') else dice.choice([0, 1, 1, 2, 4])}"
        # The name of the file is the target's, so a step on two assets writes to both.
        begin = f"LOG={self.marks}/{{{{ name }}}} NUMBER={number} STEP={key}; . {STEP}; echo step {key} of {number}"
        if does == "loud":
            work += "; head -c 24000 /dev/urandom | base64"
        if does == "poison":
            work += "; kill_worker; sleep 5"
        return f"{begin}; {work}; finish {EXIT_CODE if does == 'fail' else 0}"

    def _read(self, number: int, key: str, targets: list[str], dice: random.Random) -> dict[str, Any]:
        asked = f"asset={{{{ name }}}}&number={number}&step={key}&seconds={dice.choice([0.05, 0.1, 0.3])}"
        url = f"http://127.0.0.1:{self.device}/?{asked}"
        return {
            "tool": "http",
            "inputs": {"method": "GET", "url": url},
            "targets": targets,
            "timeout_seconds": STEP_LIMIT_SECONDS,
        }
