"""Checks of single values, by type. Each takes the value and whether it is final, and returns the normal form.

Before a plan runs (`final` false) a text with `{{` is left for later and a secret reference stands for its value;
after rendering (`final` true) neither is special: what looks like a template then is data.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from executions.connectors.ansible.playbooks import HOW_TO_NAME, is_playbook_name
from executions.tools.problems import Unfit
from executions.tools.windows_paths import check_windows_path, is_windows_path

Check = Callable[[Any, bool], Any]

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*(ms|s|sec|m|min|h|d)?")
_UNIT_SECONDS = {"ms": 0.001, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_INTEGER = re.compile(r"[+-]?\d{1,18}")
_TOO_LONG_A_NUMBER = 10**18
# Names, IPv4, IPv6 with a zone. Without a leading dash, so that no program can take it for an option.
_HOST = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9_.:-]{0,252}(?:%[A-Za-z0-9_.-]{1,32})?")
_MAX_PATH_BYTES = 4095  # PATH_MAX of Linux without the closing NUL
_NOT_IN_URL = re.compile(r"[\x00-\x20\x7f<>\"\\^`{|}]")
_SECRET_WORDS = frozenset({"type", "path", "key"})


def is_secret_reference(value: object) -> bool:
    """True for `{"type": "secret", "path": "db/orders", "key": optional}` and nothing else."""
    return (
        type(value) is dict
        and value.get("type") == "secret"
        and isinstance(value.get("path"), str)
        and bool(value["path"])
        and isinstance(value.get("key", ""), str)
        and value.keys() <= _SECRET_WORDS
    )


def has_template(value: object) -> bool:
    """True for a text with a `{{ ... }}` in it."""
    return type(value) is str and "{{" in value and "}}" in value


def plain_text(value: Any) -> str:
    """Return `value` if it is text that a process or a file can be given; raise Unfit otherwise."""
    if type(value) is not str:
        raise _not_text(value)
    if "\0" in value:
        raise Unfit(
            "has a NUL character, which no argument, path or file name can carry", "Take the NUL character out."
        )
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Unfit("is not valid Unicode: it has half of a surrogate pair", "Send the whole character.") from None
    return value


def _not_text(value: object) -> Unfit:
    if isinstance(value, dict) and value.get("type") == "secret":
        if is_secret_reference(value):
            return Unfit("is a secret reference where none can be used", "Give the value itself here.")
        return Unfit("is not a proper secret reference", 'Write {"type": "secret", "path": "db/orders/backup"}.')
    if isinstance(value, bool | int | float):
        # 1.10 comes as 1.1, and yes as true: turning those into text would be a guess.
        return Unfit(f"must be text, not {_kind(value)}", "Put the value in quotes.")
    return Unfit(f"must be text, not {_kind(value)}", "Give one text.")


def _kind(value: object) -> str:
    if value is None:
        return "null"
    kinds: dict[type, str] = {bool: "a boolean", int: "a number", float: "a number", str: "text"}
    kinds |= {list: "a list", tuple: "a list", dict: "a mapping"}
    return kinds.get(type(value), f"a value of type {type(value).__name__}")


def text_check(
    *, pattern: str | None, pattern_says: str | None, min_length: int, max_length: int, digits: bool = True
) -> Check:
    """Text of `min_length` to `max_length` characters that the whole `pattern` matches, where there is one.

    digits: a whole number counts as the text of its digits, as in `[sleep, 5]` or an exit code that a template gives.
    """
    matches = re.compile(pattern).fullmatch if pattern else None
    says = pattern_says or f"Write a value that matches {pattern}."

    def check(value: Any, final: bool) -> Any:
        if not final:
            if type(value) is dict and is_secret_reference(value):
                return value
            if has_template(value):
                return plain_text(value)
        text = str(value) if digits and type(value) is int and abs(value) < _TOO_LONG_A_NUMBER else plain_text(value)
        length = len(text)
        if length < min_length:
            raise Unfit("is empty" if not length else "is too short", f"Give at least {min_length} characters.")
        if length > max_length:
            raise Unfit(f"is longer than {max_length:,} characters", "Shorten it, or send it in several steps.")
        if matches is not None and matches(text) is None:
            raise Unfit("does not have the right form", says)
        return text

    return check


def enum_check(choices: list[str], synonyms: Mapping[str, str], *, fixed: bool) -> Check:
    """One of `choices`, in any case. `fixed`: it decides what the step does, so it cannot wait for a template."""
    known = {choice.lower(): choice for choice in choices} | {word.lower(): to for word, to in synonyms.items()}
    how_to_fix = f"Write one of: {', '.join(choices)}."

    def check(value: Any, final: bool) -> Any:
        if type(value) is str:
            found = known.get(value) or known.get(value.lower())
            if found is not None:
                return found
            if has_template(value) and not final:
                if not fixed:
                    return plain_text(value)
                raise Unfit("decides what the step does, so it cannot be a template", how_to_fix)
            raise Unfit("is not one of the words allowed here", how_to_fix)
        raise Unfit(f"must be a word, not {_kind(value)}", how_to_fix)

    return check


def number_check(*, whole: bool, minimum: float | None, maximum: float | None) -> Check:
    """A number, or text that spells one (templates render to text)."""

    def check(value: Any, final: bool) -> Any:
        number: Any = value
        if type(value) is str:
            if not final and has_template(value):
                return value
            number = _spelled(value, whole)
        elif type(value) is float and whole and value.is_integer():
            number = int(value)
        if type(number) is not int and (whole or type(number) is not float or not math.isfinite(number)):
            wanted = "a whole number" if whole else "a number"
            raise Unfit(f"must be {wanted}, not {_kind(value)}", f"Write {wanted}.")
        return _within(number, minimum, maximum)

    return check


def _spelled(text: str, whole: bool) -> int | float | None:
    text = text.strip()
    if _INTEGER.fullmatch(text):
        return int(text)
    if whole:
        return None
    try:
        return float(text)
    except ValueError:
        return None


def _within(number: Any, minimum: float | None, maximum: float | None) -> Any:
    if (minimum is not None and number < minimum) or (maximum is not None and number > maximum):
        if maximum is None:
            raise Unfit("is too small", f"Give at least {minimum}.")
        if minimum is None:
            raise Unfit("is too large", f"Give at most {maximum}.")
        raise Unfit("is out of range", f"Give a value from {minimum} to {maximum}.")
    return number


def boolean_check(value: Any, final: bool) -> Any:
    """true or false, as themselves or spelled."""
    if type(value) is bool:
        return value
    if type(value) is str:
        if not final and has_template(value):
            return value
        spelled = {"true": True, "false": False}.get(value.strip().lower())
        if spelled is not None:
            return spelled
    raise Unfit("must be true or false", "Write true or false.")


def playbook_check(value: Any, final: bool) -> Any:
    """The name of a playbook. It decides what the step does, so it cannot wait for a template."""
    text = plain_text(value)
    if not is_playbook_name(text):
        raise Unfit("is not the name of a playbook", HOW_TO_NAME)
    return text


def duration_check(*, minimum: float | None, maximum: float | None) -> Check:
    """Seconds as a number, or text such as 500ms, 30s, 5m, 2h, 1d; normal form: float seconds."""

    def check(value: Any, final: bool) -> Any:
        if type(value) is str:
            if not final and has_template(value):
                return value
            found = _DURATION.fullmatch(value.strip())
            value = float(found[1]) * _UNIT_SECONDS[found[2] or "s"] if found else None
        if type(value) not in (int, float) or not math.isfinite(value):
            raise Unfit("is not a duration", "Write seconds as a number, or text such as 30s, 5m, 2h.")
        return _within(float(value), minimum, maximum)

    return check


def windows_path_check(value: Any, final: bool) -> Any:
    """An absolute path of Windows."""
    if not final and has_template(value):
        return plain_text(value)
    return check_windows_path(plain_text(value))


def any_path_check(value: Any, final: bool) -> Any:
    """An absolute path, of POSIX or of Windows: which of the two fits the target is looked at with the target."""
    known = type(value) is str and (final or not has_template(value))
    return windows_path_check(value, final) if known and is_windows_path(value) else path_check(value, final)


def path_check(value: Any, final: bool) -> Any:
    """An absolute POSIX path without `..`, so that the page shows the very file that is meant."""
    if not final and has_template(value):
        return plain_text(value)
    path = plain_text(value)
    if not path.startswith("/"):
        raise Unfit("is not an absolute path", "Write the whole path, beginning with /.")
    if ".." in path and ".." in path.split("/"):
        raise Unfit("has a `..` in it", "Write the path that it leads to.")
    if len(path.encode()) > _MAX_PATH_BYTES:
        raise Unfit("is longer than a path can be", f"Give at most {_MAX_PATH_BYTES} bytes.")
    return path


def host_check(value: Any, final: bool) -> Any:
    """A host name or an IP address."""
    if not final and has_template(value):
        return plain_text(value)
    host = plain_text(value)
    if _HOST.fullmatch(host) is None:
        raise Unfit("is not a host name or an IP address", "Write a name such as web01.example.org, or an address.")
    return host


def relative_url_check(value: Any, final: bool) -> Any:
    """The same, or a path such as /health at an address that is known otherwise."""
    if type(value) is not str or not value.startswith("/") or value.startswith("//"):
        return url_check(value, final)
    if not final and has_template(value):
        return plain_text(value)
    path = plain_text(value)
    if len(path) > 8_192 or _NOT_IN_URL.search(path):
        raise Unfit("has a character that a URL cannot have, or too many", "Percent-encode blanks and the like.")
    return path


def url_check(value: Any, final: bool) -> Any:
    """An http or https URL without a user and password in it."""
    if not final and ((type(value) is dict and is_secret_reference(value)) or has_template(value)):
        return value
    url = plain_text(value)
    if len(url) > 8_192:
        raise Unfit("is longer than 8,192 characters", "Send the data in the body.")
    if _NOT_IN_URL.search(url):
        raise Unfit("has a character that a URL cannot have", "Percent-encode blanks and other special characters.")
    try:
        parts = urlsplit(url)
        # Reading the port is what checks it.
        fine = parts.scheme.lower() in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        raise Unfit("is not an http or https URL", "Write a URL such as https://example.org/health.")
    if "@" in parts.netloc:
        raise Unfit(
            "has a user name or password in it", "Put a secret reference into the Authorization header instead."
        )
    return url
