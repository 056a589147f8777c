"""The credentials by which machines are reached: released for a step, like any other secret, and parsed here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from executions.connectors.base import Credential
from safety.secrets import SecretUnavailable, StoredSecret

# Other names under which the entries of a credential are found.
ALIASES = {
    "user": "username",
    "key": "private_key",
    "ssh_key": "private_key",
    "token": "bearer_token",
    "value": "password",
}

_TEXTS = tuple(field.name for field in fields(Credential) if field.name != "jump_hosts")
_SECRET = ("password", "private_key", "passphrase", "api_key", "bearer_token", "sudo_password")


def credential_of(stored: StoredSecret) -> Credential:
    """Return what a stored secret says: entries by their names, or one text that is a private key or else a password.

    Raises SecretUnavailable when it holds nothing that anybody could sign in with.
    """
    entries = _entries(stored)
    known = {ALIASES.get(name, name): value for name, value in entries.items()}
    given: dict[str, Any] = {
        name: value if isinstance(value, str) else str(value)
        for name in _TEXTS
        if (value := known.get(name)) not in (None, "")
    }
    jumps = known.get("jump_hosts") or known.get("jump_host") or ()
    if isinstance(jumps, Mapping):
        jumps = (jumps,)
    if not isinstance(jumps, list | tuple) or not all(isinstance(jump, Mapping) for jump in jumps):
        raise SecretUnavailable(
            stored.path,
            f"The credential {stored.path} has jump_hosts that are no list of objects.",
            'Store them as [{"host": ..., "username": ..., "private_key": ...}].',
        )
    if not given:
        names = ", ".join(sorted(entries)[:10]) or "nothing"
        raise SecretUnavailable(
            stored.path,
            f"The credential {stored.path} holds {names}, and nothing to sign in with.",
            "Store a password or a private key, or an object with username and password, private_key or agent.",
        )
    return Credential(**given, jump_hosts=tuple(jumps))


def secrets_of(credential: Credential) -> list[str]:
    """Return every value of a credential that must not be seen."""
    values = [getattr(credential, name) for name in _SECRET]
    for jump in credential.jump_hosts:
        values += [value for name in _SECRET if isinstance(value := jump.get(name), str)]
    return [value for value in values if value]


def _entries(stored: StoredSecret) -> Mapping[str, Any]:
    entries = stored.entries
    if entries is not None and not (entries.keys() == {"value"} and isinstance(entries["value"], str)):
        return entries
    text = (stored.text if entries is None else entries["value"]) or ""
    try:
        read = json.loads(text)
    except ValueError:
        read = None
    if isinstance(read, dict):
        return read
    text_as = "private_key" if "-----BEGIN" in text else "password"
    return {text_as: text if text_as == "private_key" else text.rstrip("\r\n")}
