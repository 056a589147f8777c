"""What every store does, and which one this installation has."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

from django.conf import settings

from safety.models import Tenant
from safety.secrets.unavailable import SecretUnavailable

PREFIX = "opsconductor"
LARGEST_BYTES = 65_536  # as much as AWS Secrets Manager takes; more is a file, not a secret


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """A secret as it came out of its store: one text, or named entries. Its values are in no repr.

    version  as the store counts it, for the record of who used what
    """

    path: str
    version: str
    text: str | None = field(default=None, repr=False)
    entries: Mapping[str, Any] | None = field(default=None, repr=False)

    def value(self, key: str | None) -> str:
        """Return the entry `key`, or, without one, the secret as a whole. Raises SecretUnavailable."""
        value = self._whole() if key is None else self._entry(key)
        if not value:
            raise SecretUnavailable(self.path, f"The secret {self.path} is empty.", "Store its value again.")
        return value

    def _whole(self) -> str:
        if self.text is not None:
            return self.text
        entries = self.entries or {}
        if len(entries) == 1:
            return _as_text(next(iter(entries.values())))
        if "value" in entries:
            return _as_text(entries["value"])
        raise SecretUnavailable(
            self.path,
            f"The secret {self.path} holds {len(entries)} entries, and the reference names none of them.",
            'Add "key" to the reference, with the name of the entry.',
        )

    def _entry(self, key: str) -> str:
        entries = self.entries
        if entries is not None and key not in entries and entries.keys() == {"value"}:
            entries = _as_object(_as_text(entries["value"]))
        elif entries is None:
            entries = _as_object(self.text or "")
        if entries is None:
            raise SecretUnavailable(
                self.path,
                f"The secret {self.path} is one text, so it has no entry {key}.",
                'Leave "key" out, or store a JSON object.',
            )
        if key not in entries:
            raise SecretUnavailable(
                self.path, f"The secret {self.path} has no entry {key}.", 'Correct "key", or add the entry.'
            )
        return _as_text(entries[key])


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _as_object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


class SecretStore(Protocol):
    """Holds the secrets of all tenants, and answers for one at a time. Used from several threads at once.

    `path` has passed check_path. Nothing is kept between calls: a value that was replaced is not given out again.
    """

    name: str

    def keep_ready(self) -> None:
        """Begin what has to go on in the background of a worker so that reading is quick."""
        ...

    def missing(self, tenant: Tenant, paths: Iterable[str]) -> set[str] | None:
        """Return those of the paths at which there is surely nothing; None when only reading would tell."""
        ...

    def read(self, tenant: Tenant, paths: Iterable[str]) -> dict[str, StoredSecret | SecretUnavailable]:
        """Return what is at each of the paths, or why it cannot be had."""
        ...

    def write(self, tenant: Tenant, path: str, value: str) -> str:
        """Store a value, over the one before; return its version. Raises SecretUnavailable."""
        ...

    def delete(self, tenant: Tenant, path: str) -> bool:
        """Remove a secret with every version; return whether there was one. Raises SecretUnavailable."""
        ...

    def paths(self, tenant: Tenant) -> list[str]:
        """Return the paths that there are, in order. Raises SecretUnavailable."""
        ...


def place_of(tenant: Tenant, path: str = "") -> str:
    """Return where an external store has a secret: below a folder of the tenant, whose name has no slash."""
    return f"{PREFIX}/{tenant.name}/{path}"


@cache
def configured_store() -> SecretStore:
    """Return the store that SECRETS_BACKEND names, made once for each process."""
    # Imported here: an installation has the library of its own store, not of every other.
    if settings.SECRETS_BACKEND == "vault" and settings.VAULT is not None:
        from safety.secrets.vault import VaultStore

        return VaultStore(settings.VAULT)
    if settings.SECRETS_BACKEND == "aws":
        from safety.secrets.aws import AwsStore

        return AwsStore(settings.AWS_REGION)
    from safety.secrets.embedded import EmbeddedStore

    return EmbeddedStore(settings.FIELD_ENCRYPTION_KEYS)
