"""The installation's own secrets, from its settings and environment: they must show up nowhere, whatever fails."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from safety.masking.keys import names_a_secret

# A shorter one in the environment of a process is rather a number or a switch than a secret.
SHORTEST_OF_ENVIRONMENT = 8


def own_secrets(settings: Any, environment: Mapping[str, str]) -> set[str]:
    """Return the values that are secret by the name of their setting or variable.

    Not a value that is also a name in the same settings (a database user `postgres` with the password `postgres`): it
    would be hidden in every other word, and hide nothing. In addresses such a password is masked by its place.
    """
    found: set[str] = set()
    names: set[str] = set()
    for name in dir(settings):
        if name.isupper():
            found.update(_in(name, getattr(settings, name, None), names))
    for name, value in environment.items():
        if names_a_secret(name) and len(value) >= SHORTEST_OF_ENVIRONMENT and not value.startswith(("/", "~")):
            found.update(text for part in value.split(",") for text in _texts(part))
    return {value for value in found if value not in names}


def _in(name: str, value: Any, names: set[str]) -> Iterator[str]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for one in dataclasses.fields(value):
            yield from _in(one.name, getattr(value, one.name), names)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _in(str(key), item, names)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _in(name, item, names)
    elif isinstance(value, bytes) and name.endswith("_KEYS"):
        yield base64.urlsafe_b64encode(value).decode()  # as it was written
    elif isinstance(value, str) and value:
        if name in ("USER", "NAME", "HOST"):
            names.add(value)
        if (names_a_secret(name) or name.endswith("_KEYS")) and not value.startswith("/"):
            yield from _texts(value)


def _texts(value: str) -> Iterator[str]:
    """The value, and the password in it if it is an address; of a plain address without one nothing is secret."""
    if "://" not in value:
        yield value
        return
    try:
        password = urlsplit(value).password
    except ValueError:
        yield value
        return
    if password:
        yield from {password, unquote(password)}
