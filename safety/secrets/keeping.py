"""Storing and removing secrets: what the commands and the admin page call."""

from __future__ import annotations

from django.conf import settings
from django.db import transaction

from safety import audit
from safety.models import Tenant, User
from safety.secrets.embedded import EmbeddedStore, Rotation
from safety.secrets.paths import check_path
from safety.secrets.stores import LARGEST_BYTES, SecretStore, configured_store


def store_secret(tenant: Tenant, path: str, value: str, *, by: User | None) -> str:
    """Store `value` at `path`, over the one before, and return its version. `by` None: whoever runs the command.

    Raises ValueError for a path or value that cannot be one, SecretUnavailable when the store does not take it.
    """
    check_path(path)
    check_value(value)
    store = configured_store()
    with transaction.atomic():
        version = store.write(tenant, path, value)
        _note("secret.set", store, tenant, path, by, {"version": version})
    return version


def remove_secret(tenant: Tenant, path: str, *, by: User | None) -> bool:
    """Remove a secret; return whether there was one. Raises ValueError and SecretUnavailable."""
    check_path(path)
    return _remove(configured_store(), tenant, path, by)


def remove_row(tenant: Tenant, path: str, *, by: User) -> bool:
    """Remove a row of the embedded store, whichever store is configured; return whether there was one.

    Rows are left over from before another store was chosen. What that one has at the same path is in use, and stays.
    """
    return _remove(EmbeddedStore(settings.FIELD_ENCRYPTION_KEYS), tenant, path, by)


def _remove(store: SecretStore, tenant: Tenant, path: str, by: User | None) -> bool:
    with transaction.atomic():
        removed = store.delete(tenant, path)
        if removed:
            _note("secret.delete", store, tenant, path, by, {})
    return removed


def rotate_keys(store: EmbeddedStore, *, by: User | None, dry_run: bool = False) -> Rotation:
    """Encrypt everything anew with the first key. Raises SecretUnavailable without keys."""
    rotation = store.reseal(dry_run=dry_run)
    if rotation.done and not dry_run:
        done = {"done": rotation.done, "unreadable": len(rotation.unreadable)}
        audit.record("secret.rotate", by=by, object_type="secret", data=done)
    return rotation


def _note(action: str, store: SecretStore, tenant: Tenant, path: str, by: User | None, data: dict[str, str]) -> None:
    """Within the transaction of the embedded store; an external one has done it by then, so that can be without its
    record when the database is lost in between."""
    data = {**data, "store": store.name}
    audit.record(action, by=by, tenant_id=tenant.pk, object_type="secret", object_id=path, object_name=path, data=data)


def check_can_store() -> None:
    """Raises SecretUnavailable, with what to set, when this process has no key for the embedded store."""
    store = configured_store()
    if isinstance(store, EmbeddedStore):
        store.check_has_key()


def check_value(value: str) -> None:
    """Raises ValueError with a sentence, which never repeats the value."""
    if not value:
        raise ValueError("The value is empty: a secret has at least one character.")
    if "\0" in value:
        raise ValueError("The value holds a NUL character, which no process, header or file of text can be given.")
    size = len(value.encode("utf-8", "surrogatepass"))
    if size > LARGEST_BYTES:
        raise ValueError(f"The value has {size:,} bytes; a secret has at most {LARGEST_BYTES:,}.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("The value is not UTF-8 text.") from None
