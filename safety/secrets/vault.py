"""Secrets of HashiCorp Vault, KV engine version 2."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import hvac
import requests
from hvac import exceptions

from safety.models import Tenant
from safety.secrets.several import read_each
from safety.secrets.stores import StoredSecret, place_of
from safety.secrets.unavailable import SecretUnavailable, not_there
from safety.secrets.vault_session import VaultSession
from safety.secrets.vault_troubles import of_answer, of_connection, of_redirect

if TYPE_CHECKING:
    from opsconductor.secret_store import VaultSettings

T = TypeVar("T")


class VaultStore:
    """Secrets at MOUNT/opsconductor/TENANT/PATH. Each thread has a connection of its own, all share one sign-in."""

    name = "vault"

    def __init__(self, settings: VaultSettings) -> None:
        self._mount = settings.mount
        self._session = VaultSession(settings)
        self._own = threading.local()

    def keep_ready(self) -> None:
        """Begin to renew the token in the background, also while no secret is asked for."""
        self._session.keep_signed_in()

    def missing(self, tenant: Tenant, paths: Iterable[str]) -> None:
        """A web process need not reach Vault: the worker finds out."""
        return None

    def read(self, tenant: Tenant, paths: Iterable[str]) -> dict[str, StoredSecret | SecretUnavailable]:
        return read_each(lambda path: self._read(tenant, path), paths)

    def _read(self, tenant: Tenant, path: str) -> StoredSecret:
        answer = self._ask(path, lambda kv: kv.read_secret_version(**self._at(tenant, path), **_TOLD_OF_DELETED))
        try:
            data, version = answer["data"]["data"], str(answer["data"]["metadata"]["version"])
        except (KeyError, TypeError):
            raise of_redirect(path, answer) from None
        if not isinstance(data, dict):
            raise _deleted(path)
        return StoredSecret(path, version, entries=data)

    def write(self, tenant: Tenant, path: str, value: str) -> str:
        entries = {"value": value}
        answer = self._ask(path, lambda kv: kv.create_or_update_secret(**self._at(tenant, path), secret=entries))
        return str(answer["data"]["version"])

    def delete(self, tenant: Tenant, path: str) -> bool:
        at = self._at(tenant, path)
        try:
            self._ask(path, lambda kv: kv.read_secret_metadata(**at))
        except SecretUnavailable as trouble:
            if isinstance(trouble.__cause__, exceptions.InvalidPath):
                return False
            raise
        self._ask(path, lambda kv: kv.delete_metadata_and_all_versions(**at))
        return True

    def paths(self, tenant: Tenant) -> list[str]:
        found: list[str] = []
        folders = [""]
        while folders:
            folder = folders.pop()
            for name in self._names_in(tenant, folder):
                (folders if name.endswith("/") else found).append(f"{folder}{name}")
        return sorted(found)

    def _names_in(self, tenant: Tenant, folder: str) -> list[str]:
        try:
            answer = self._ask(folder, lambda kv: kv.list_secrets(**self._at(tenant, folder)))
        except SecretUnavailable as trouble:
            if isinstance(trouble.__cause__, exceptions.InvalidPath):
                return []  # nothing was stored there yet
            raise
        names: list[str] = answer["data"]["keys"]
        return names

    def _at(self, tenant: Tenant, path: str) -> dict[str, str]:
        return {"path": place_of(tenant, path), "mount_point": self._mount}

    def _ask(self, path: str, call: Callable[[Any], T]) -> T:
        """Ask with a valid token; once more after signing in anew when the token turns out to be none any more.

        Vault says "permission denied" for both a token that ended and a policy that denies: the token itself tells
        which it was.
        """
        for last in (False, True):
            client = self._client()
            client.token = self._session.token(path, client)
            try:
                return call(client.secrets.kv.v2)
            except exceptions.Forbidden as denied:
                if last or self._session.is_valid(client):
                    raise of_answer(path, denied) from denied
                self._session.forget(client.token)
            except exceptions.VaultError as trouble:
                raise of_answer(path, trouble) from trouble
            except requests.RequestException as trouble:
                raise of_connection(path, trouble) from None
        raise AssertionError("the second turn returns or raises")

    def _client(self) -> hvac.Client:
        client: hvac.Client | None = getattr(self._own, "client", None)
        if client is None:
            client = self._own.client = self._session.client()
        return client


# Of a version that was deleted Vault tells when; hvac would raise the same as for a path that never was.
_TOLD_OF_DELETED = {"raise_on_deleted_version": False}


def _deleted(path: str) -> SecretUnavailable:
    missing = not_there(path)
    return SecretUnavailable(
        path, f"The newest version of the secret {path} was deleted.", f"Undelete it in Vault. {missing.how_to_fix}"
    )
