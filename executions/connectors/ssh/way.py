"""By which way a target is reached: address, user, credential, host keys, and the hosts that are passed before it."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field

from executions.connectors.base import Credential, ErrorCode, Outcome, Target

PORT = 22
_MOST_JUMPS = 5

# Two credentials are told apart by a digest that means nothing outside this process.
_SALT = secrets.token_bytes(32)


class NoWay(Exception):
    """The target cannot be reached, or not with what is known of it. `outcome` says why."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.error)
        self.outcome = outcome


def no_way(code: ErrorCode, sentence: str) -> NoWay:
    return NoWay(Outcome(None, code, sentence))


@dataclass(frozen=True, slots=True)
class Way:
    """What a connection is made of. Two targets with the same `key` share connections."""

    name: str
    host: str
    port: int
    username: str
    credential: Credential = field(repr=False)
    host_keys: tuple[str, ...]
    tenant_id: int
    asset_id: int | None
    before: Way | None = None  # the jump host through which it goes
    key: str = field(init=False, repr=False, default="")

    def __post_init__(self) -> None:
        known: list[object] = [self.tenant_id, self.asset_id, self.host, self.port, self.username, list(self.host_keys)]
        known += [asdict(self.credential), self.before.key if self.before else ""]
        text = json.dumps(known, default=dict, sort_keys=True).encode()
        object.__setattr__(self, "key", hashlib.blake2b(text, key=_SALT).hexdigest())


def way_to(target: Target, agents: Collection[str]) -> Way:
    """Raises NoWay with CREDENTIAL_UNUSABLE when something is missing.

    agents: the sockets of SSH agents that this worker lets credentials name; no other is ever spoken to.
    """
    credential = target.credential or Credential()
    username = credential.username or target.username
    if not target.address:
        raise no_way(ErrorCode.UNREACHABLE, "The asset has neither an address nor a host name.")
    if not username:
        raise no_way(
            ErrorCode.CREDENTIAL_UNUSABLE,
            f"Nobody has said as which user to sign in on {target.name}. Set the asset's username, or store one in its"
            " credential.",
        )
    if not (credential.private_key or credential.password or credential.agent):
        raise no_way(
            ErrorCode.CREDENTIAL_UNUSABLE,
            f"There is nothing to sign in on {target.name} with. Name a credential in the asset that holds a private"
            " key, a password or an agent.",
        )
    before = _before(target, agents)
    _check_agent(credential, target.name, agents)
    return Way(
        name=target.name or target.address,
        host=target.address,
        port=target.port or PORT,
        username=username,
        credential=_own(credential),
        host_keys=target.host_keys,
        tenant_id=target.tenant_id,
        asset_id=target.asset_id,
        before=before,
    )


def way_to_look_at(target: Target, agents: Collection[str]) -> Way:
    """The way to a target that is not signed in to: only what stands before it is. Raises NoWay."""
    if not target.address:
        raise no_way(ErrorCode.UNREACHABLE, "The asset has neither an address nor a host name.")
    return Way(
        name=target.name or target.address,
        host=target.address,
        port=target.port or PORT,
        username="",
        credential=Credential(),
        host_keys=(),
        tenant_id=target.tenant_id,
        asset_id=target.asset_id,
        before=_before(target, agents),
    )


def _before(target: Target, agents: Collection[str]) -> Way | None:
    """The way to the last of the jump hosts; None where there are none."""
    jump_hosts = target.credential.jump_hosts if target.credential else ()
    if len(jump_hosts) > _MOST_JUMPS:
        raise no_way(ErrorCode.CREDENTIAL_UNUSABLE, f"More than {_MOST_JUMPS} jump hosts stand before {target.name}.")
    before: Way | None = None
    for jump in jump_hosts:
        before = _jump(jump, before, target)
        _check_agent(before.credential, before.name, agents)
    return before


def _jump(jump: Mapping[str, object], before: Way | None, target: Target) -> Way:
    def text(*names: str) -> str:
        return next((str(value) for name in names if (value := jump.get(name)) not in (None, "")), "")

    host, username, port = text("host", "hostname", "address"), text("username", "user"), text("port") or str(PORT)
    keys = text("host_key", "host_keys")
    if not host or not username or not port.isdecimal():
        raise no_way(
            ErrorCode.CREDENTIAL_UNUSABLE,
            f"A jump host of {target.name} lacks its host or username, or its port is no number.",
        )
    return Way(
        name=f"the jump host {host}",
        host=host,
        port=int(port),
        username=username,
        credential=Credential(
            password=text("password"),
            private_key=text("private_key", "key"),
            passphrase=text("passphrase"),
            certificate=text("certificate"),
            agent=text("agent"),
        ),
        host_keys=tuple(line.strip() for line in keys.splitlines() if line.strip()),
        tenant_id=target.tenant_id,
        asset_id=None,
        before=before,
    )


def _check_agent(credential: Credential, name: str, agents: Collection[str]) -> None:
    """Whoever may write a secret could else sign in with the keys of any agent that the worker's user can speak to."""
    if credential.agent and credential.agent not in agents:
        raise no_way(
            ErrorCode.CREDENTIAL_UNUSABLE,
            f"The credential of {name} names an SSH agent that this worker may not ask. Add its socket to"
            " SSH_AGENT_SOCKETS, or store a key or a password.",
        )


def _own(credential: Credential) -> Credential:
    """What of a credential makes the connection: not how others are passed, nor what sudo wants."""
    return Credential(
        password=credential.password,
        private_key=credential.private_key,
        passphrase=credential.passphrase,
        certificate=credential.certificate,
        agent=credential.agent,
    )
