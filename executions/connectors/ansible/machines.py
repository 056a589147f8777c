"""How ansible is told of each target: a name, variables, and a block of the run's own SSH configuration.

The way to a target is the one that the SSH connector goes. What gets into the configuration is checked before: no
address, user or key can end a line of it, or be an option.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import asyncssh

from executions.connectors.ansible.tidy import name_at
from executions.connectors.base import Credential, ErrorCode, Outcome, Target
from executions.connectors.local import own_user
from executions.connectors.ssh.host_keys import FINGERPRINT, KeyBook
from executions.connectors.ssh.way import NoWay, Way, no_way, way_to

_ADDRESS = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9_.:-]*(%[A-Za-z0-9_.-]+)?", re.ASCII)
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+$-]{0,63}", re.ASCII)
_ALIAS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_SOCKET = re.compile(r"/[A-Za-z0-9_./@:+-]+", re.ASCII)
_GROUPS = frozenset({"all", "ungrouped"})  # a host cannot be called as these are


@dataclass(frozen=True, slots=True)
class Machine:
    """A target as ansible is told of it."""

    alias: str
    variables: Mapping[str, object] = field(repr=False)
    ssh_blocks: tuple[str, ...] = ()
    known_hosts: tuple[str, ...] = ()


@dataclass(slots=True)
class Keys:
    """Private keys, without passphrase, for the run's agent; and what is public of them, for the folder."""

    folder: Path
    private: list[str] = field(default_factory=list, repr=False)
    public: dict[str, str] = field(default_factory=dict)  # by the name of its file
    _lines: dict[tuple[str, ...], list[str]] = field(default_factory=dict, repr=False)

    def add(self, credential: Credential) -> list[str]:
        """Lines of the SSH configuration that offer this key alone. Raises NoWay.

        Opening one that has a passphrase takes a tenth of a second: it is done once for all targets that share it.
        """
        told = (credential.private_key, credential.passphrase, credential.certificate)
        if told not in self._lines:
            self._lines[told] = self._opened(credential)
        return self._lines[told]

    def _opened(self, credential: Credential) -> list[str]:
        try:
            key = asyncssh.import_private_key(credential.private_key.strip() + "\n", credential.passphrase or None)
            certificate = credential.certificate.strip()
            if certificate:
                asyncssh.import_certificate(certificate + "\n")
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError):
            raise no_way(
                ErrorCode.CREDENTIAL_UNUSABLE,
                "Its private key or certificate cannot be read: store it whole, in OpenSSH or PEM form, with its"
                " passphrase beside it if it has one.",
            ) from None
        name = f"{len(self.private)}.pub"
        self.private.append(key.export_private_key("openssh").decode())
        self.public[name] = key.export_public_key().decode()
        lines = [f"IdentityFile {self.folder / 'keys' / name}", f"IdentityAgent {self.folder / 'agent'}"]
        if certificate:
            self.public[f"certificate-{name}"] = certificate + "\n"
            lines.append(f"CertificateFile {self.folder / 'keys' / f'certificate-{name}'}")
        return ["IdentitiesOnly yes", *lines]


@dataclass(frozen=True, slots=True)
class Describer:
    """Describes the targets of one run. `known_hosts`: the file that counts for assets without a host key.
    `run`: what the names of its folders on the targets begin with. `agents`: the sockets that credentials may name."""

    keys: Keys
    known_hosts: str
    run_as: str
    fence: int
    run: str
    agents: frozenset[str] = frozenset()

    def all(self, targets: Sequence[Target]) -> list[Machine | Outcome]:
        """For each target how ansible is told of it, or why it cannot be part of the run. To be run in a thread."""
        names = aliases_of(targets)
        return [self._one(place, target, names[place]) for place, target in enumerate(targets)]

    def _one(self, place: int, target: Target, alias: str) -> Machine | Outcome:
        variables: dict[str, object] = {
            "ansible_connection": "local" if target.connection == "local" else "ssh",
            "ansible_python_interpreter": "auto_silent",
            "opsconductor_name": target.name,
            "opsconductor_address": target.address,
            "opsconductor_asset": target.external_id,
            "opsconductor_fence": self.fence,
        }
        try:
            if target.connection == "local":
                return self._local(alias, variables)
            return self._far(target, alias, {**variables, "ansible_remote_tmp": name_at(self.run, place)})
        except NoWay as refusal:
            return refusal.outcome

    def _local(self, alias: str, variables: dict[str, object]) -> Machine:
        if self.run_as and self.run_as != own_user():
            # As for commands: the warden could not end another user's processes.
            raise no_way(
                ErrorCode.NOT_SUPPORTED,
                f"Tasks on this machine run as {own_user()}, not as {self.run_as}. Leave run_as out, or reach the"
                " machine by ssh.",
            )
        # What ansible would put below the user's home for each task, it puts into memory.
        return Machine(alias, {**variables, "ansible_remote_tmp": str(self.keys.folder / "tmp")})

    def _far(self, target: Target, alias: str, variables: dict[str, object]) -> Machine:
        credential = target.credential or Credential()
        way = way_to(target, self.agents)
        variables["ansible_user"] = way.username
        if credential.password:
            variables["ansible_password"] = credential.password
        if self.run_as:
            variables |= {"ansible_become": True, "ansible_become_method": "sudo", "ansible_become_user": self.run_as}
        if credential.sudo_password:
            variables["ansible_become_password"] = credential.sudo_password
        blocks: list[str] = []
        known: list[str] = []
        self._tell(way, alias, blocks, known)
        return Machine(alias, variables, tuple(blocks), tuple(known))

    def _tell(self, way: Way, alias: str, blocks: list[str], known: list[str], *, is_jump: bool = False) -> None:
        """Add the block of a host, and before it those of the hosts that are passed."""
        if not _ADDRESS.fullmatch(way.host) or not _USER.fullmatch(way.username):
            raise no_way(
                ErrorCode.INVALID_INVOCATION,
                f"The address or the user name of {way.name} is none that ssh can be given.",
            )
        onward = "ProxyCommand none"
        if way.before is not None:
            # With a + in it, it is no target's: theirs have none.
            self._tell(way.before, f"{alias}+before", blocks, known, is_jump=True)
            onward = f"ProxyJump {alias}+before"
        known += self._known(way, alias)
        words = [
            f"HostName {way.host.replace('%', '%%')}",
            f"Port {way.port}",
            f"User {way.username}",
            f"HostKeyAlias {alias}",
            onward,
            *self._identity(way),
        ]
        if is_jump:
            # ssh would ask ansible for a password, and show this host that of the target.
            words += ["PasswordAuthentication no", "KbdInteractiveAuthentication no"]
            if not (way.credential.private_key or way.credential.agent):
                raise no_way(ErrorCode.NOT_SUPPORTED, f"Playbooks pass {way.name} with a private key or agent only.")
        blocks.append("\n".join([f"Host {alias}", *(f"  {word}" for word in words)]))

    def _identity(self, way: Way) -> list[str]:
        credential = way.credential
        if credential.private_key:
            return self.keys.add(credential)
        if credential.agent:
            if not _SOCKET.fullmatch(credential.agent):
                raise no_way(ErrorCode.CREDENTIAL_UNUSABLE, f"The agent of {way.name} is not the path of a socket.")
            return [f"IdentityAgent {credential.agent}"]
        return ["PubkeyAuthentication no"]

    def _known(self, way: Way, alias: str) -> list[str]:
        """Lines of known_hosts for a host: what the asset says, else what the installation's file does."""
        whole = tuple(line for line in way.host_keys if not line.startswith(FINGERPRINT))
        if way.host_keys and not whole:
            raise no_way(
                ErrorCode.HOST_KEY_UNKNOWN,
                f"Only a fingerprint of the host key of {way.name} is known; ssh, by which playbooks are run, needs the"
                " whole key. Pin it: manage.py pin_host_keys --replace.",
            )
        keys, authorities, revoked = KeyBook(replace(way, host_keys=whole), self.known_hosts).trusted(any_kind=False)
        if not keys and not authorities:
            raise no_way(
                ErrorCode.HOST_KEY_UNKNOWN,
                f"Nobody has said which host key {way.name} has, so it could be any machine. Pin it: manage.py"
                " pin_host_keys, or the action on the asset.",
            )
        marked = [("", keys), ("@cert-authority ", authorities), ("@revoked ", revoked)]
        return list(dict.fromkeys(f"{mark}{alias} {_line(key)}" for mark, some in marked for key in some))


def aliases_of(targets: Sequence[Target]) -> list[str]:
    """A name for each target that ansible takes for nothing but a name: the asset's own, where it can be."""
    taken: set[str] = set(_GROUPS)
    aliases = []
    for place, target in enumerate(targets, start=1):
        alias = target.name if _ALIAS.fullmatch(target.name) else f"target-{place}"
        while alias in taken:
            alias += f"-{place}"
        taken.add(alias)
        aliases.append(alias)
    return aliases


def _line(key: asyncssh.SSHKey) -> str:
    return " ".join(key.export_public_key().decode().split()[:2])
