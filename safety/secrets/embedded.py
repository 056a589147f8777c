"""The embedded store: rows of our own database, encrypted with keys that are not in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.db import connection
from django.db.models.functions import Now

from safety.models import Tenant
from safety.models.secrets import Secret
from safety.secrets.encryption import CannotOpen, KeyRing
from safety.secrets.stores import StoredSecret
from safety.secrets.unavailable import SecretUnavailable, not_there

SET_KEYS = (
    "Set FIELD_ENCRYPTION_KEYS (or FIELD_ENCRYPTION_KEYS_FILE) for this process as for the others; without DATABASE_URL"
    " the key is made by itself, in VAR_DIR/field_encryption_key."
)

# One statement, so of two writers at once the later one's value stands and both are counted.
_WRITE = """
INSERT INTO safety_secret (tenant_id, path, version, sealed, sealed_with, created_at, updated_at)
VALUES (%s, %s, 1, %s, %s, statement_timestamp(), statement_timestamp())
ON CONFLICT (tenant_id, path) DO UPDATE
   SET version = safety_secret.version + 1, sealed = EXCLUDED.sealed, sealed_with = EXCLUDED.sealed_with,
       updated_at = EXCLUDED.updated_at
RETURNING version
"""


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a rotation of the keys did. `unreadable` are those whose key is not among FIELD_ENCRYPTION_KEYS."""

    done: int
    unreadable: tuple[str, ...]


class EmbeddedStore:
    """Secrets as rows, sealed under FIELD_ENCRYPTION_KEYS. The value before is gone when a new one is written."""

    name = "embedded"

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._ring = KeyRing(keys) if keys else None

    def read(self, tenant: Tenant, paths: Iterable[str]) -> dict[str, StoredSecret | SecretUnavailable]:
        wanted = list(paths)
        rows = Secret.objects.filter(tenant_id=tenant.pk, path__in=wanted)
        found = {row.path: row for row in rows.only("path", "version", "sealed", "sealed_with")}
        return {path: self._open(tenant, found[path]) if path in found else not_there(path) for path in wanted}

    def _open(self, tenant: Tenant, row: Secret) -> StoredSecret | SecretUnavailable:
        if self._ring is None:
            return SecretUnavailable(
                row.path, f"The secret {row.path} cannot be decrypted here: this process has no key.", SET_KEYS
            )
        try:
            text = self._ring.open(bytes(row.sealed), row.sealed_with, _place(tenant.pk, row.path))
        except CannotOpen:
            return SecretUnavailable(
                row.path,
                f"The secret {row.path} cannot be decrypted: no key of FIELD_ENCRYPTION_KEYS opens it.",
                "Add the key that it was stored under, or store the value again.",
            )
        return StoredSecret(row.path, str(row.version), text=text)

    def write(self, tenant: Tenant, path: str, value: str) -> str:
        ring = self._need_ring(path)
        with connection.cursor() as cursor:
            cursor.execute(_WRITE, [tenant.pk, path, ring.seal(value, _place(tenant.pk, path)), ring.first])
            row = cursor.fetchone()
        return str(row[0])

    def delete(self, tenant: Tenant, path: str) -> bool:
        deleted, _ = Secret.objects.filter(tenant_id=tenant.pk, path=path).delete()
        return deleted > 0

    def paths(self, tenant: Tenant) -> list[str]:
        return list(Secret.objects.filter(tenant_id=tenant.pk).order_by("path").values_list("path", flat=True))

    def keep_ready(self) -> None:
        """The database is there, or nothing is."""

    def missing(self, tenant: Tenant, paths: Iterable[str]) -> set[str]:
        """Without decrypting anything. One query."""
        wanted = set(paths)
        there = Secret.objects.filter(tenant_id=tenant.pk, path__in=wanted)
        return wanted - set(there.values_list("path", flat=True))

    def reseal(self, *, dry_run: bool = False) -> Rotation:
        """Encrypt anew, with the first key, everything that another key sealed.

        Row by row, each by compare-and-set: a value stored meanwhile is not overwritten (it is sealed with the first
        key already), and a rotation that was broken off goes on where it was. Raises SecretUnavailable without keys.
        """
        ring = self._need_ring("")
        done, after = 0, 0
        unreadable: list[str] = []
        others = Secret.objects.exclude(sealed_with=ring.first).select_related("tenant").order_by("pk")
        while batch := list(others.filter(pk__gt=after)[:200]):
            after = batch[-1].pk
            for row in batch:
                place, sealed = _place(row.tenant_id, row.path), bytes(row.sealed)
                try:
                    value = ring.open(sealed, row.sealed_with, place)
                except CannotOpen:
                    unreadable.append(f"{row.tenant.name}: {row.path}")
                    continue
                if dry_run:
                    done += 1
                    continue
                unchanged = Secret.objects.filter(pk=row.pk, sealed=sealed)
                done += unchanged.update(sealed=ring.seal(value, place), sealed_with=ring.first, resealed_at=Now())
        return Rotation(done, tuple(unreadable))

    def check_has_key(self) -> None:
        """Raises SecretUnavailable when nothing can be encrypted here."""
        self._need_ring("")

    def _need_ring(self, path: str) -> KeyRing:
        if self._ring is None:
            raise SecretUnavailable(path, "Secrets cannot be encrypted here: this process has no key.", SET_KEYS)
        return self._ring


def _place(tenant_id: int, path: str) -> str:
    """What a sealed value is bound to: a path has neither colons nor blanks, so no two places are written alike."""
    return f"{tenant_id}:{path}"
