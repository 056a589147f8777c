"""Waves of a step over its targets: what a plan may write, and how many targets each wave then has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from executions.plans.compiled import StoredGate
from executions.plans.fields import Fields, as_number
from executions.plans.vocabulary import boolean_of, is_given

REST: Final = "rest"
USUAL: Final = ("5%", "25%", REST)  # what `waves: true` means
MOST_WAVES = 50
MOST_TARGETS = 1_000_000
LONGEST_PAUSE = 86_400.0

_SHARE = re.compile(r"(100|[0-9]{1,2})\s*%")
_FIX = "Write, for example: [5%, 25%, rest], [1, 10, rest], or true for 5%, 25% and the rest."


def share_of(text: str) -> str | None:
    """A share as it is stored, such as "20%"; None when the text is none."""
    found = _SHARE.fullmatch(text.strip())
    return f"{int(found.group(1))}%" if found else None


def part_of(amount: int | str, total: int) -> int:
    """A count, or a share of a total rounded down: whole numbers all the way, so that the edges are exact."""
    return total * int(amount.rstrip("%")) // 100 if isinstance(amount, str) else amount


def count_or_share(part: Fields, name: str) -> int | str:
    """A count from 0, or a share; 0 when absent or wrong."""
    value = part.values.get(name)
    if isinstance(value, str) and (share := share_of(value)) is not None:
        return share
    if isinstance(value, str) and "%" in value:
        part.wrong(name, f"{name} must be a count or a share up to 100%.", 'Write 2, or "20%".')
        return 0
    return part.whole(name, 0, MOST_TARGETS) or 0


def read_waves(part: Fields) -> list[int | str] | None:
    """The waves of a fan-out as they are stored; None when it has none, or when they are wrong."""
    value = part.values.get("waves")
    if not isinstance(value, list):
        said = boolean_of(value) if is_given(value) else False
        if said is None:
            part.wrong("waves", "waves must be a list, or true.", _FIX)
        return list(USUAL) if said else None
    if len(value) > MOST_WAVES:
        part.wrong("waves", f"There are {len(value)} waves; at most {MOST_WAVES} are taken.", "Write fewer.")
        return None
    read = [_wave(part, number, one, last=number == len(value) - 1) for number, one in enumerate(value)]
    return [one for one in read if one is not None] or None


def _wave(part: Fields, number: int, value: object, *, last: bool) -> int | str | None:
    name = f"waves[{number}]"
    if isinstance(value, str) and value.strip().lower() == REST:
        if not last:
            part.wrong(name, "Only the last wave can be the rest.", _FIX)
        return REST
    if isinstance(value, str) and "%" in value:
        share = share_of(value)
        if share is None or share == "0%":
            part.wrong(name, "A wave must be a share from 1% to 100%.", _FIX)
        return share
    count = as_number(value)
    if count is None or count != int(count) or not 1 <= count <= MOST_TARGETS:
        part.wrong(name, "A wave must be a count from 1, a share of all targets, or rest.", _FIX)
        return None
    return int(count)


def read_gate(fields: Fields) -> StoredGate:
    """What stands between two waves; by default it lets nothing pass but success."""
    known = ("pause_seconds", "max_failures", "approval")
    part = fields.part("gate", known, '{pause_seconds: 60, max_failures: "10%", approval: true}')
    if part is None:
        return {"pause_seconds": 0.0, "max_failures": 0}
    read: StoredGate = {
        "pause_seconds": part.number("pause_seconds", 0, LONGEST_PAUSE) or 0.0,
        "max_failures": count_or_share(part, "max_failures"),
    }
    if part.flag("approval"):  # only then: plans without it keep the hashes that they had
        read["approval"] = True
    return read


def wave_sizes(waves: list[int | str], total: int) -> list[int]:
    """How many of `total` targets each wave has, in their order.

    A share is of all targets, rounded down, and at least one target. What is left after the last is one more wave; a
    wave for which nothing is left falls away.
    """
    sizes: list[int] = []
    left = total
    for wave in [*waves, REST]:
        size = left if wave == REST else min(left, max(1, part_of(wave, total)))
        if size:
            sizes.append(size)
            left -= size
    return sizes


def approved_waves(step: Mapping[str, Any]) -> range:
    """The numbers of the waves of a stored step before which a person is asked: all but the first, or none."""
    gate = step["fan_out"].get("gate") or {}
    return range(2, len(step.get("waves") or ()) + 1) if gate.get("approval") else range(0)


def rounds_of(step: Mapping[str, Any]) -> int:
    """How often the time of a stored step passes when its targets do not all go at once."""
    at_once = step["fan_out"]["max_concurrent"]
    return sum(-(-size // at_once) for size in step.get("waves") or [max(1, len(step["targets"]))])


def pauses_of(step: Mapping[str, Any]) -> float:
    """The seconds that a stored step waits between its waves, all together."""
    waves = step.get("waves") or [0]
    return float(step["fan_out"]["gate"]["pause_seconds"]) * (len(waves) - 1) if len(waves) > 1 else 0.0
