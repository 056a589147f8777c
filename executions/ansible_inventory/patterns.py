"""Names of hosts as inventories write them: `web[01:20].example.com:2222` is twenty hosts and a port."""

from __future__ import annotations

import ipaddress
import re
import string
from collections.abc import Iterator

from executions.ansible_inventory.tree import MOST_HOSTS, TooManyHosts

_RANGE = re.compile(r"\[([0-9]+|[A-Za-z])?:([0-9]+|[A-Za-z])(?::([0-9]+))?\]")
_PORT = re.compile(r"(.+):([0-9]{1,5})")
_BRACKETED = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::([0-9]{1,5}))?")


class NoPattern(Exception):
    """The text names no hosts; the message is a sentence."""


def hosts_of(pattern: str) -> tuple[list[str], str | None]:
    """Return the names that a pattern stands for, and the port if one is given. Raises NoPattern, TooManyHosts."""
    if _is_address(pattern):
        return [pattern], None
    bracketed = _BRACKETED.fullmatch(pattern)
    if bracketed and _is_address(bracketed[1]):
        return [bracketed[1]], bracketed[2]
    port = None
    if (found := _PORT.fullmatch(pattern)) and found[1].count("[") == found[1].count("]"):
        pattern, port = found[1], found[2]
    names: list[str] = []
    for name in _expand(pattern):
        names.append(name)
        if len(names) > MOST_HOSTS:
            raise TooManyHosts
    return names, port


def _expand(pattern: str) -> Iterator[str]:
    found = _RANGE.search(pattern)
    if found is None:
        if "[" in pattern or "]" in pattern:
            raise NoPattern(f"{pattern!r} has brackets that are no range such as [01:20] or [a:f].")
        yield pattern
        return
    for part in _parts(found):
        for rest in _expand(pattern[found.end() :]):
            yield pattern[: found.start()] + part + rest


def _parts(found: re.Match[str]) -> list[str]:
    first, last, step = found[1] or "0", found[2], int(found[3] or 1)
    if first.isdecimal() != last.isdecimal() or step < 1 or len(first) > 9 or len(last) > 9:
        raise NoPattern(f"The range {found[0]} has no beginning, end or step that fit each other.")
    if not first.isdecimal():
        letters = string.ascii_letters
        parts = list(letters[letters.index(first) : letters.index(last) + 1 : step])
    else:
        width = len(first) if first.startswith("0") and len(first) > 1 else 0
        if width and len(last) < width:
            raise NoPattern(f"The range {found[0]} begins with more digits than it ends with.")
        numbers = range(int(first), int(last) + 1, step)
        if len(numbers) > MOST_HOSTS:
            raise TooManyHosts
        parts = [f"{number:0{width}d}" for number in numbers]
    if not parts:
        raise NoPattern(f"The range {found[0]} ends before it begins.")
    return parts


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
