"""Being signed in at Vault: a token that is renewed before it ends, and had anew when it ended all the same."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import hvac
import requests
from hvac import exceptions

from safety.secrets.unavailable import SecretUnavailable
from safety.secrets.vault_troubles import not_signed_in, of_answer, of_connection, of_redirect

if TYPE_CHECKING:
    from opsconductor.secret_store import VaultSettings

log = logging.getLogger(__name__)

CONNECT_SECONDS = 3.05
READ_SECONDS = 5.0
RENEW_AFTER = 2 / 3  # of its life: one attempt may fail, and there is time for another
SHORTEST_LIFE_SECONDS = 5.0  # what is renewed to less has come to its largest age: sign in anew
LOOK_AGAIN_SECONDS = 5.0  # after a renewal that failed
FAILURE_STANDS_SECONDS = 1.0  # no second sign-in before: many secrets are asked for at once, and each try takes seconds


class VaultSession:
    """The sign-in of one process, shared by its threads; the lock is held while one of them signs in."""

    def __init__(self, settings: VaultSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._token = ""
        self._renewable = False
        self._life_seconds = 0.0  # 0: it never ends
        self._since = 0.0
        self._is_told = False
        self._failure: tuple[float, SecretUnavailable] | None = None  # of the last sign-in, and until when it stands
        self._keeper: threading.Thread | None = None

    def client(self) -> hvac.Client:
        """Return a client for one thread. Nothing comes from the process's environment, no redirect is followed."""
        http = requests.Session()
        http.trust_env = False
        http.verify = self._settings.ca_file or True  # with a session, hvac goes by the session's
        return hvac.Client(
            url=self._settings.address,
            token="",
            timeout=(CONNECT_SECONDS, READ_SECONDS),
            namespace=self._settings.namespace or None,
            allow_redirects=False,
            session=http,
        )

    def token(self, path: str, client: hvac.Client) -> str:
        """Return a token that is valid, as far as can be known without using it. Raises SecretUnavailable."""
        with self._lock:
            if not self._token or self._is_over():
                self._sign_in(path, client)
            return self._token

    def is_valid(self, client: hvac.Client) -> bool:
        """Ask Vault whether the client's token is a token at all. Without an answer it is taken for one."""
        try:
            client.auth.token.lookup_self()
        except exceptions.Forbidden:
            return False
        except (exceptions.VaultError, requests.RequestException):
            return True
        return True

    def forget(self, token: str) -> None:
        """This token is none any more; another thread may have a new one already."""
        with self._lock:
            if self._token == token:
                self._token = ""

    def _is_over(self) -> bool:
        return bool(self._life_seconds) and time.monotonic() >= self._since + self._life_seconds

    def _sign_in(self, path: str, client: hvac.Client) -> None:
        """Sign in, or raise at once what the last try gave when that was a moment ago: whoever waited for the lock
        meanwhile would only find out the same, one after the other. With the lock held. No sentence names the path."""
        if self._failure is not None and time.monotonic() < self._failure[0]:
            trouble = self._failure[1]
            raise SecretUnavailable(path, trouble.message, trouble.how_to_fix, transient=trouble.transient)
        try:
            self._try_to_sign_in(path, client)
        except SecretUnavailable as trouble:
            self._failure = time.monotonic() + FAILURE_STANDS_SECONDS, trouble
            raise

    def _try_to_sign_in(self, path: str, client: hvac.Client) -> None:
        settings = self._settings
        how = "the AppRole (VAULT_ROLE and VAULT_SECRET_ID)" if settings.role else "the token (VAULT_TOKEN)"
        began = time.monotonic()
        try:
            if settings.role:
                client.token = ""
                answer = client.auth.approle.login(settings.role, settings.secret_id or None, use_token=False)
            else:
                client.token = settings.token
                answer = client.auth.token.lookup_self()
            self._take(answer, began)
        except (exceptions.Forbidden, exceptions.InvalidPath, exceptions.InvalidRequest, exceptions.Unauthorized):
            raise not_signed_in(path, how) from None
        except exceptions.VaultError as trouble:
            raise of_answer(path, trouble) from None
        except requests.RequestException as trouble:
            raise of_connection(path, trouble) from None
        except (KeyError, TypeError):
            raise of_redirect(path, answer) from None

    def _take(self, answer: Any, began: float) -> None:
        """Note the token of a login, a renewal (`auth`) or a look at one (`data`), and how long it lives.

        Its life is counted from before the request: it never ends earlier for Vault than for us.
        """
        if answer.get("auth"):
            self._token = answer["auth"]["client_token"]
            self._life_seconds = float(answer["auth"]["lease_duration"])
            self._renewable = bool(answer["auth"]["renewable"])
        else:
            self._token = self._settings.token
            self._life_seconds = float(answer["data"]["ttl"])
            self._renewable = bool(answer["data"].get("renewable"))
        self._since = began

    # -- the keeper ---------------------------------------------------------------------------------------------------

    def keep_signed_in(self) -> None:
        """Start the thread that signs in and renews, once."""
        with self._lock:
            if self._keeper is None:
                self._keeper = threading.Thread(target=self._keep, name="vault-token", daemon=True)
                self._keeper.start()

    def _keep(self) -> None:
        client = self.client()
        while True:
            time.sleep(self._renew(client))

    def _renew(self, client: hvac.Client) -> float:
        """Do what is due now; return the seconds until something is due again."""
        with self._lock:
            try:
                if not self._token or self._is_over():
                    self._sign_in("", client)
                elif time.monotonic() >= self._due_at():
                    self._renew_token(client)
            except SecretUnavailable as trouble:
                if not self._is_told:
                    log.warning("The token of Vault could not be renewed: %s", trouble)
                self._is_told = True  # once, not every few seconds
                return LOOK_AGAIN_SECONDS
            self._is_told = False
            if not self._life_seconds:
                return 3600.0
            return max(0.1, self._due_at() - time.monotonic())

    def _due_at(self) -> float:
        return self._since + self._life_seconds * RENEW_AFTER

    def _renew_token(self, client: hvac.Client) -> None:
        if self._renewable:
            client.token = self._token
            began = time.monotonic()
            try:
                self._take(client.auth.token.renew_self(), began)
            except (exceptions.VaultError, requests.RequestException, KeyError, TypeError):
                log.warning("Vault did not renew the token.")
            else:
                if self._life_seconds >= SHORTEST_LIFE_SECONDS:
                    return
        if self._settings.role:
            self._sign_in("", client)
        elif not self._is_over():
            raise SecretUnavailable("", "The token ends and is not renewed any more.", "Set a new VAULT_TOKEN.")
