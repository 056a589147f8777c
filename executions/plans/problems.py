"""What is wrong with a plan: one closed list of codes, and the collector that gathers every problem of a plan."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Code(StrEnum):
    """Why a plan is refused. The values are part of the API."""

    EMPTY_PLAN = "empty_plan"
    DUPLICATE_STEP_ID = "duplicate_step_id"
    UNKNOWN_DEPENDENCY = "unknown_dependency"
    DEPENDENCY_CYCLE = "dependency_cycle"
    UNKNOWN_TOOL = "unknown_tool"
    INVALID_INPUT = "invalid_input"
    MISSING_TARGET = "missing_target"
    UNKNOWN_ASSET = "unknown_asset"
    AMBIGUOUS_ASSET = "ambiguous_asset"
    UNRESOLVED_PLACEHOLDER = "unresolved_placeholder"
    PLAINTEXT_SECRET = "plaintext_secret"
    TOO_MANY_TARGETS = "too_many_targets"
    PLAN_TOO_LARGE = "plan_too_large"
    NO_CONNECTOR = "no_connector"


class Candidate(NamedTuple):
    """An asset that a name could mean, and how it is told."""

    asset_id: int
    text: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason to refuse a plan.

    path        where in the plan, counted from 0: `steps[2].inputs.argv[0]`; `plan` for the document as a whole
    message     what is wrong, one sentence; never repeats a value that may be a secret
    how_to_fix  what to write instead, one sentence
    candidates  the assets that an ambiguous name could mean
    """

    code: str
    path: str
    message: str
    how_to_fix: str
    candidates: tuple[Candidate, ...] = ()

    def as_dict(self, *, seen: Collection[int] | None = None) -> dict[str, object]:
        """The problem as the API and the command line show it; `candidates` only where there are some, and of them only
        those that are `seen`, if that is given."""
        shown: dict[str, object] = {
            "code": str(self.code),
            "path": self.path,
            "message": self.message,
            "how_to_fix": self.how_to_fix,
        }
        if told := [text for number, text in self.candidates if seen is None or number in seen]:
            shown["candidates"] = told
        return shown


class PlanRefused(Exception):
    """The plan cannot be accepted as it is. Correct every problem listed and submit it again; nothing was written."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        told = "; ".join(f"{problem.path}: {problem.message}" for problem in self.problems[:3])
        more = f" (and {len(self.problems) - 3} more)" if len(self.problems) > 3 else ""
        super().__init__(f"The plan is refused: {told}{more}")


# Looking for near names is the one thing here whose cost a caller could drive up, with a plan of nonsense words.
_LONGEST_NAME = 60
_MOST_LOOKUPS = 100
_MOST_NAMES = 200


class Problems:
    """Gathers the problems of one plan, so that the caller learns of all of them at once."""

    def __init__(self, at_most: int = 1000) -> None:
        self._found: list[Problem] = []
        self._at_most = at_most
        self._left_out = 0
        self._lookups = 0

    def __bool__(self) -> bool:
        return bool(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def add(self, code: Code, path: str, message: str, how_to_fix: str, candidates: tuple[Candidate, ...] = ()) -> None:
        """Note one problem; beyond the limit it is only counted."""
        if len(self._found) >= self._at_most:
            self._left_out += 1
            return
        self._found.append(Problem(str(code), path, message, how_to_fix, candidates))

    def near(self, word: str, known: Iterable[str], cutoff: float = 0.6) -> list[str]:
        """Up to three of `known` that look like `word`, best first; nothing for long words or after many lookups."""
        self._lookups += 1
        if len(word) > _LONGEST_NAME or self._lookups > _MOST_LOOKUPS:
            return []
        return difflib.get_close_matches(word, list(known)[:_MOST_NAMES], n=3, cutoff=cutoff)

    def has_at(self, path: str) -> bool:
        """Whether something was already said about `path`, a part of it, or what it is a part of."""
        return any(overlap(problem.path, path) for problem in self._found)

    def refuse(self) -> PlanRefused:
        """The refusal that lists what was gathered, in the order of the steps."""
        listed = sorted(self._found, key=lambda problem: _step_number(problem.path))
        if self._left_out:
            listed.append(
                Problem(
                    str(Code.INVALID_INPUT),
                    "plan",
                    f"{self._left_out} further problems are not listed.",
                    "Correct those listed and submit again to see the rest.",
                )
            )
        return PlanRefused(listed)


def refuse(code: Code, path: str, message: str, how_to_fix: str) -> PlanRefused:
    """A refusal for a single problem that leaves nothing else to look at."""
    return PlanRefused([Problem(str(code), path, message, how_to_fix)])


def did_you_mean(names: Iterable[str]) -> str:
    """`Did you mean a, or b?`, or nothing."""
    listed = list(names)
    return f"Did you mean {', or '.join(listed)}? " if listed else ""


def shown(text: str, longest: int = 60) -> str:
    """A caller's own word, short enough to repeat in a message."""
    flat = " ".join(text.split())
    return flat if len(flat) <= longest else flat[: longest - 1] + "…"


def overlap(one: str, other: str) -> bool:
    """Whether two paths are the same, or one is a part of the other."""
    shorter, longer = sorted((one, other), key=len)
    return longer.startswith(shorter) and (len(longer) == len(shorter) or longer[len(shorter)] in ".[")


def _step_number(path: str) -> int:
    if not path.startswith("steps["):
        return -1
    return int(path[6 : path.index("]")])
