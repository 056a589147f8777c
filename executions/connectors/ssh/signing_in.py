"""One connection, from the first packet to being signed in, or the reason why there is none."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import weakref
from typing import Any

import asyncssh

from executions.connectors.base import Credential, ErrorCode
from executions.connectors.ssh.host_keys import KeyBook
from executions.connectors.ssh.way import NoWay, Way, no_way

CONNECT_SECONDS = 10.0
KEEPALIVE_SECONDS = 5.0
_MOST_KINDS = 4  # of host keys that a server has: Ed25519, ECDSA, RSA
_KEPT_OPEN_SECONDS = 60.0  # a private key that has a passphrase: as long as an idle connection
KEEPALIVE_COUNT = 3  # so a host that has gone is noticed within 20 s

# The quickest first. All of them are authenticated, and every OpenSSH of the last ten years has one of the first three.
CIPHERS = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes256-ctr,aes128-ctr"


_Opened = dict[bytes, asyncio.Future[asyncssh.SSHKey]]
_opened_on: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Opened] = weakref.WeakKeyDictionary()


class _Client(asyncssh.SSHClient):
    def __init__(self, book: KeyBook) -> None:
        self._book = book

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        return self._book.knows(key)


async def sign_in(
    way: Way, through: asyncssh.SSHClientConnection | None, *, known_hosts: str, seconds: float = CONNECT_SECONDS
) -> asyncssh.SSHClientConnection:
    """Connect and sign in. Nothing of the worker's own is used: no key, agent or configuration of its user.

    Raises NoWay.
    """
    book = KeyBook(way, known_hosts)
    identity = await _identity(way)
    not_of_kind: list[str] = []
    asks_for_any = False
    while True:
        kinds = "default" if asks_for_any else "-" + ",".join(signatures_of(not_of_kind)) if not_of_kind else ()
        try:
            return await _connect(way, through, book.trusted(any_kind=asks_for_any), book, kinds, identity, seconds)
        except asyncssh.HostKeyNotVerifiable as error:
            if book.seen is None:  # it was not looked at: revoked, or a certificate
                raise book.refusal(str(error)) from None
            if asks_for_any or not book.may_know_another_kind or len(not_of_kind) == _MOST_KINDS:
                raise book.refusal() from None
            not_of_kind.append(book.seen.get_algorithm())
        except (asyncssh.KeyExchangeFailed, asyncssh.ConnectionLost, ConnectionResetError) as error:
            if asks_for_any or book.is_empty:
                raise explained(error, way, seconds) from None
            # A host that has no key of a kind that was asked for says so, or just hangs up. See which it has.
            asks_for_any = True
        except (TimeoutError, OSError, asyncssh.Error, ValueError) as error:
            raise explained(error, way, seconds) from None


async def _connect(
    way: Way,
    through: asyncssh.SSHClientConnection | None,
    known: tuple[list[asyncssh.SSHKey], ...],
    book: KeyBook,
    kinds: Any,
    identity: dict[str, Any],
    seconds: float,
) -> asyncssh.SSHClientConnection:
    return await asyncssh.connect(
        way.host,
        way.port,
        tunnel=through or (),
        username=way.username,
        known_hosts=known,
        server_host_key_algs=kinds,
        client_factory=lambda: _Client(book),
        config=None,
        encryption_algs=CIPHERS,
        connect_timeout=seconds,
        login_timeout=seconds,
        keepalive_interval=KEEPALIVE_SECONDS,
        keepalive_count_max=KEEPALIVE_COUNT,
        agent_path=None,
        agent_forwarding=False,
        gss_host=None,
        host_based_auth=False,
        preferred_auth="publickey,keyboard-interactive,password",
        **identity,
    )


def signatures_of(kinds: list[str]) -> list[str]:
    return [name for kind in kinds for name in ((kind, "rsa-sha2-256", "rsa-sha2-512") if "rsa" in kind else (kind,))]


async def _identity(way: Way) -> dict[str, Any]:
    """What is shown to the host. Never an empty list of keys, for which the worker's own would be taken.

    Raises NoWay when the credential cannot be used.
    """
    credential = way.credential
    keys: list[Any] = []
    if credential.private_key:
        keys.append(await _key_pair(way))
    if credential.agent:
        keys += await _keys_of_agent(way)
    return {"password": credential.password or None, "client_keys": keys or None}


async def _key_pair(way: Way) -> Any:
    credential = way.credential
    try:
        key = await _private_key(credential)
        if not credential.certificate:
            return key
        return (key, asyncssh.import_certificate(credential.certificate.strip() + "\n"))
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError) as error:
        raise no_way(
            ErrorCode.CREDENTIAL_UNUSABLE,
            f"The private key, or its certificate, for {way.name} cannot be used: {_first_line(error)}. Store it whole,"
            " in OpenSSH or PEM form, and its passphrase beside it if it has one.",
        ) from None


async def _private_key(credential: Credential) -> asyncssh.SSHKey:
    """Read a private key. One with a passphrase is made to be slow to open: it is opened in a thread, and once for all
    the hosts that are signed in to with it in the same minute."""
    text = credential.private_key.strip() + "\n"
    if not credential.passphrase:
        return asyncssh.import_private_key(text)
    mark = hashlib.sha256(f"{credential.passphrase}\0{text}".encode()).digest()
    loop = asyncio.get_running_loop()
    opened_here = _opened_on.setdefault(loop, {})
    opened = opened_here.get(mark)
    if opened is None:
        opened = loop.create_task(asyncio.to_thread(asyncssh.import_private_key, text, credential.passphrase))
        opened.add_done_callback(_look_at)
        opened_here[mark] = opened
        loop.call_later(_KEPT_OPEN_SECONDS, opened_here.pop, mark, None)
    return await asyncio.shield(opened)


def _look_at(opened: asyncio.Future[asyncssh.SSHKey]) -> None:
    """Everybody who waits for it hears of its failure; if nobody does any more, it is not worth a warning."""
    if not opened.cancelled():
        opened.exception()


async def _keys_of_agent(way: Way) -> list[Any]:
    try:
        agent = asyncssh.SSHAgentClient(way.credential.agent)
        keys = list(await agent.get_keys())
    except (OSError, ValueError, asyncssh.Error) as error:
        raise no_way(
            ErrorCode.CREDENTIAL_UNUSABLE,
            f"The agent that the credential of {way.name} names does not answer: {_first_line(error)}.",
        ) from None
    if not keys and not (way.credential.password or way.credential.private_key):
        raise no_way(ErrorCode.CREDENTIAL_UNUSABLE, f"The agent that the credential of {way.name} names has no keys.")
    return keys


def explained(error: Exception, way: Way, seconds: float) -> NoWay:
    at = f"{way.name} ({way.host} port {way.port})" if way.name != way.host else f"{way.host} port {way.port}"
    if isinstance(error, TimeoutError):
        sentence = (
            f"{at} did not answer within {seconds:g} s. Is it up, and does a firewall let port {way.port} through?"
        )
        return no_way(ErrorCode.UNREACHABLE, sentence)
    if isinstance(error, socket.gaierror):
        return no_way(ErrorCode.UNREACHABLE, f"The name {way.host} is not known here: {error.strerror}.")
    if isinstance(error, ConnectionRefusedError):
        sentence = f"{at} refused the connection: nothing listens there. Does the SSH server run, and on this port?"
        return no_way(ErrorCode.CONNECTION_REFUSED, sentence)
    if isinstance(error, asyncssh.PermissionDenied):
        return no_way(
            ErrorCode.AUTHENTICATION_FAILED,
            f"{at} refused user {way.username} with {_shown(way)}. Correct the credential, or allow it on the host.",
        )
    if isinstance(error, asyncssh.KeyExchangeFailed):
        return no_way(ErrorCode.NOT_SUPPORTED, f"{at} and this worker have no method in common: {_first_line(error)}.")
    if isinstance(error, asyncssh.ProtocolError | asyncssh.ProtocolNotSupported):
        return no_way(
            ErrorCode.UNREACHABLE, f"What answers on {at} does not speak SSH as it should: {_first_line(error)}."
        )
    if isinstance(error, asyncssh.ChannelOpenError):
        return no_way(ErrorCode.UNREACHABLE, f"The jump host did not get through to {at}: {_first_line(error)}.")
    if isinstance(error, OSError):
        return no_way(ErrorCode.UNREACHABLE, f"{at} cannot be reached: {error.strerror or error}.")
    return no_way(ErrorCode.UNREACHABLE, f"{at} closed the connection while signing in: {_first_line(error)}.")


def _shown(way: Way) -> str:
    credential = way.credential
    shown = [
        name
        for name, is_there in (
            ("its certificate", credential.certificate),
            ("its key", credential.private_key and not credential.certificate),
            ("the keys of the agent", credential.agent),
            ("its password", credential.password),
        )
        if is_there
    ]
    return " and ".join(shown) or "nothing"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")


__all__ = ["CONNECT_SECONDS", "NoWay", "sign_in"]
