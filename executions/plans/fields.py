"""Reading the fields of a plan's objects: each wrong value is noted with its path, and a harmless one returned."""

from __future__ import annotations

import math
from collections.abc import Mapping

from executions.plans import vocabulary
from executions.plans.problems import Code, Problems, did_you_mean, shown
from executions.plans.vocabulary import boolean_of, folded, is_given


class Fields:
    """The fields of one object of the plan, under our names. `path` is the object's, e.g. `steps[2].retry`."""

    __slots__ = ("path", "problems", "values")

    def __init__(self, values: Mapping[str, object], path: str, problems: Problems) -> None:
        self.values = values
        self.path = path
        self.problems = problems

    def given(self, name: str) -> bool:
        return is_given(self.values.get(name))

    def wrong(self, name: str, message: str, how_to_fix: str) -> None:
        self.problems.add(Code.INVALID_INPUT, self.at(name), message, how_to_fix)

    def at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def text(self, name: str, longest: int) -> str:
        """Text of at most `longest` characters; numbers are taken as text; empty when absent or wrong."""
        value = self.values.get(name)
        if value is None:
            return ""
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            self.wrong(name, f"{name} must be text.", "Write it as text in quotes.")
            return ""
        text = str(value).strip()
        if len(text) > longest:
            self.wrong(name, f"{name} is longer than {longest} characters.", "Shorten it.")
            return text[:longest]
        return text

    def flag(self, name: str) -> bool | None:
        """A truth value; None when absent or wrong."""
        value = self.values.get(name)
        if value is None or value == "":
            return None
        found = boolean_of(value)
        if found is None:
            self.wrong(name, f"{name} must be true or false.", "Write true or false.")
        return found

    def number(self, name: str, least: float, most: float, *, above: bool = False) -> float | None:
        """A number from `least` (not itself, when `above`) to `most`; None when absent or wrong."""
        value = self.values.get(name)
        if value is None or value == "":
            return None
        number = as_number(value)
        if number is None or not least <= number <= most or (above and number == least):
            bounds = f"{'above' if above else 'at least'} {least:g} and at most {most:g}"
            self.wrong(name, f"{name} must be a number, {bounds}.", f"Write a number {bounds}.")
            return None
        return number

    def whole(self, name: str, least: int, most: int) -> int | None:
        """A whole number in the range; None when absent or wrong."""
        value = self.values.get(name)
        if value is None or value == "":
            return None
        number = as_number(value)
        if number is None or number != int(number) or not least <= number <= most:
            self.wrong(name, f"{name} must be a whole number from {least} to {most}.", "Write such a number.")
            return None
        return int(number)

    def part(self, name: str, known: tuple[str, ...], example: str) -> Fields | None:
        """An object inside this one whose names are all known; None when absent or wrong."""
        value = self.values.get(name)
        if not is_given(value):
            return None
        if not isinstance(value, Mapping):
            self.wrong(name, f"{name} must be an object.", f"Write, for example: {example}.")
            return None
        path = self.at(name)
        for key in value:
            if key not in known:
                near = did_you_mean(self.problems.near(key, known))
                self.problems.add(
                    Code.INVALID_INPUT,
                    f"{path}.{shown(key)}",
                    f"{name} has no field {shown(key)!r}.",
                    f"{near}It takes: {', '.join(known)}.",
                )
        return Fields(value, path, self.problems)


def as_number(value: object) -> float | None:
    """A finite number, written as one or as digits in quotes; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, str) and len(value) > 40:
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def under_our_names(
    raw: Mapping[str, object], names: Mapping[str, str], accepted: Mapping[str, tuple[str, ...]]
) -> tuple[dict[str, object], list[str]]:
    """Map callers' names to ours: (fields by our names, names that are not known). The first name given counts."""
    ours: dict[str, object] = {}
    unknown: list[str] = []
    several: set[str] = set()
    for name, value in raw.items():
        canonical = names.get(name)
        if canonical is None:
            unknown.append(name)
        elif canonical in ours:
            several.add(canonical)
        else:
            ours[canonical] = value
    for canonical in several:
        values = [raw[name] for name in accepted[canonical] if name in raw]
        ours[canonical] = next((value for value in values if is_given(value)), values[0])
    return ours, unknown


def meant(name: str, names: Mapping[str, str], problems: Problems) -> list[str]:
    """Which of the known names a name that is not known was probably meant to be; seldom wrong, so cautious."""
    wanted = folded(name)
    same = [known for known in names if folded(known) == wanted]
    return same or problems.near(name, names, cutoff=0.85)


def told_about_unknown(fields: Fields, raw: Mapping[str, object], unknown: list[str]) -> list[str]:
    """Note unknown fields of a step that would change what it does; return sentences about those that are ignored."""
    ignored: list[str] = []
    for name in unknown:
        if not is_given(raw[name]):
            continue
        instead = vocabulary.MEANT_IN_A_STEP.get(name.lower())
        if instead == "":
            fields.wrong(
                shown(name),
                f"A step has no field {shown(name)!r}: conditions and loops are not evaluated.",
                "Leave it out, or decide with depends_on, on_failure and success.",
            )
        elif instead is not None:
            fields.wrong(shown(name), f"A step has no field {shown(name)!r}.", f"Write {instead}.")
        elif near := meant(name, vocabulary.STEP_NAMES, fields.problems):
            fields.wrong(shown(name), f"A step has no field {shown(name)!r}.", did_you_mean(near).strip())
        elif len(ignored) < 20:
            ignored.append(f"The field {shown(name)!r} is not known and was ignored.")
    return ignored
