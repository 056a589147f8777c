"""What ansible-playbook is given of the targets: inventory, SSH configuration, host keys, variables, settings.

Everything that says how a machine is reached stands in one SSH configuration of the run's own, so that neither the
worker's own files nor the playbook's words (`remote_user`, `connection`) can lead it to another machine, or there as
somebody else. Values are written by PyYAML, and what stands in the SSH configuration is checked before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
import yaml

from executions.connectors.base import Credential, ErrorCode, Outcome, Target

CONNECT_SECONDS = 10
_ALIVE_EVERY_SECONDS = 15
_KEPT_SECONDS = 60  # of a connection between two tasks; all are ended with the run
NO_TARGET_HOST = "no-target-of-this-step.invalid"  # RFC 6761: that name is nobody's
END_TASK = "OpsConductor: the end of the playbook"

_ADDRESS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*(%[A-Za-z0-9_.-]+)?", re.ASCII)
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+$-]{0,63}", re.ASCII)
_ALIAS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_KEY_LINE = re.compile(r"[a-z0-9@.-]+ [A-Za-z0-9+/=]+", re.ASCII)
_AGENT = re.compile(r"/[A-Za-z0-9_./@:+-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Machine:
    """A target as ansible is told of it."""

    alias: str
    target: Target
    variables: Mapping[str, object] = field(repr=False)
    ssh_blocks: tuple[str, ...] = ()
    known_hosts: tuple[str, ...] = ()


@dataclass(slots=True)
class Keys:
    """Private keys, without passphrase, for the run's agent; and their public halves, for the folder."""

    folder: Path
    private: list[str] = field(default_factory=list, repr=False)
    public: list[str] = field(default_factory=list)

    def add(self, credential: _Sign) -> list[str]:
        """Lines of the SSH configuration that offer this key alone. Raises Unfit."""
        try:
            key = asyncssh.import_private_key(credential.private_key, credential.passphrase or None)
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError):
            raise Unfit(
                ErrorCode.CREDENTIAL_UNUSABLE,
                "Its private key cannot be read: store it as OpenSSH or PEM text, with the passphrase if it has one.",
            ) from None
        public = key.export_public_key().decode().strip()
        if public not in self.public:
            self.private.append(key.export_private_key("openssh").decode())
            self.public.append(public)
        place = self.folder / "keys" / f"{self.public.index(public)}.pub"
        return ["IdentitiesOnly yes", f"IdentityFile {place}", f"IdentityAgent {self.folder / 'agent'}"]


@dataclass(frozen=True, slots=True)
class _Sign:
    private_key: str = field(repr=False)
    passphrase: str = field(repr=False)


class Unfit(Exception):
    """A target cannot be part of the run. Nothing was sent to it."""

    def __init__(self, code: ErrorCode, sentence: str) -> None:
        super().__init__(sentence)
        self.outcome = Outcome(None, code, sentence)


def aliases_of(targets: Sequence[Target]) -> list[str]:
    """A name for each target that ansible takes for nothing but a name: the asset's own, where it can be."""
    taken: set[str] = set()
    aliases = []
    for place, target in enumerate(targets, start=1):
        alias = target.name if _ALIAS.fullmatch(target.name) and target.name != "all" else ""
        if not alias or alias in taken:
            alias = f"target-{place}"
            while alias in taken:
                alias += "-"
        taken.add(alias)
        aliases.append(alias)
    return aliases


def machine_of(target: Target, alias: str, keys: Keys, *, run_as: str, fence: int) -> Machine:
    """Raises Unfit."""
    credential = target.credential or Credential()
    variables: dict[str, object] = {
        "ansible_python_interpreter": "auto_silent",
        "opsconductor_name": target.name,
        "opsconductor_address": target.address,
        "opsconductor_asset": target.external_id,
        "opsconductor_fence": fence,
    }
    if run_as:
        variables |= {"ansible_become": True, "ansible_become_method": "sudo", "ansible_become_user": run_as}
    if credential.sudo_password:
        variables["ansible_become_password"] = credential.sudo_password
    if target.connection == "local":
        # What ansible would put below the user's home for each task, it puts into memory.
        temporary = str(keys.folder / "tmp")
        return Machine(alias, target, variables | {"ansible_connection": "local", "ansible_remote_tmp": temporary})
    variables["ansible_connection"] = "ssh"
    user = credential.username or target.username
    if credential.password:
        variables["ansible_password"] = credential.password
    signs = _identity(credential, keys, user)
    variables["ansible_user"] = user
    blocks, known, way = _jumps(credential, alias, keys)
    known.append(_known(alias, target.host_keys, "host_key_unknown"))
    blocks.append(_block(alias, target.address, target.port or 22, user, [*signs, *way]))
    return Machine(alias, target, variables, tuple(blocks), tuple(line for lines in known for line in lines))


def _identity(credential: Credential, keys: Keys, user: str) -> list[str]:
    if not _USER.fullmatch(user):
        raise Unfit(
            ErrorCode.CREDENTIAL_UNUSABLE,
            "There is no user name to sign in with that SSH can be given: set username in the asset or its credential.",
        )
    if credential.private_key:
        lines = keys.add(_Sign(credential.private_key, credential.passphrase))
        if credential.certificate:
            raise Unfit(
                ErrorCode.NOT_SUPPORTED, "Playbooks cannot use a credential with a certificate; a key or password can."
            )
        return lines
    if credential.agent:
        if not _AGENT.fullmatch(credential.agent):
            raise Unfit(ErrorCode.CREDENTIAL_UNUSABLE, "Its agent is not the path of a socket.")
        return [f"IdentityAgent {credential.agent}"]
    if credential.password:
        return ["PubkeyAuthentication no", "IdentityAgent none"]
    raise Unfit(
        ErrorCode.CREDENTIAL_UNUSABLE,
        "There is nothing to sign in with: name a credential in the asset with a private key, an agent or a password.",
    )


def _jumps(credential: Credential, alias: str, keys: Keys) -> tuple[list[str], list[list[str]], list[str]]:
    """Blocks and host keys of the jump hosts, and the line by which the target goes through them."""
    blocks: list[str] = []
    known: list[list[str]] = []
    names: list[str] = []
    for place, jump in enumerate(credential.jump_hosts, start=1):
        name, host = f"{alias}--jump-{place}", str(jump.get("host", ""))
        key = str(jump.get("private_key", "") or "")
        if not key:
            raise Unfit(
                ErrorCode.NOT_SUPPORTED, f"Playbooks pass a jump host with a private key only, and {host} has none."
            )
        user = str(jump.get("username", "") or "")
        signs = _identity(Credential(private_key=key, passphrase=str(jump.get("passphrase", "") or "")), keys, user)
        host_keys = str(jump.get("host_key", "") or "").splitlines()
        known.append(_known(name, [line.strip() for line in host_keys if line.strip()], f"jump host {host}"))
        port = jump.get("port", 22)
        way = [f"ProxyJump {names[-1]}"] if names else ["ProxyCommand none"]
        blocks.append(_block(name, host, port if isinstance(port, int) else 22, user, [*signs, *way]))
        names.append(name)
    return blocks, known, [f"ProxyJump {names[-1]}"] if names else ["ProxyCommand none"]


def _known(alias: str, host_keys: Iterable[str], whose: str) -> list[str]:
    lines = [" ".join(line.split()[:2]) for line in host_keys]
    whole = [line for line in lines if _KEY_LINE.fullmatch(line)]
    if whole:
        return [f"{alias} {line}" for line in whole]
    if lines:
        sentence = (
            "Only a fingerprint of its host key is known; ssh, by which playbooks are run, needs the whole key. Pin it."
        )
    else:
        sentence = "Nobody has said which host key it has, so it could be any machine. Pin it, then run again."
    if whose.startswith("jump host"):
        sentence = f"{whose[0].upper()}{whose[1:]}: {sentence}"
    raise Unfit(ErrorCode.HOST_KEY_UNKNOWN, sentence)


def _block(alias: str, address: str, port: int, user: str, lines: Sequence[str]) -> str:
    if not _ADDRESS.fullmatch(address):
        raise Unfit(ErrorCode.INVALID_INVOCATION, f"{address!r} is no address that SSH can be given.")
    words = [f"HostName {address.replace('%', '%%')}", f"Port {port}", f"User {user}", f"HostKeyAlias {alias}", *lines]
    return "\n".join([f"Host {alias}", *(f"  {line}" for line in words)])


def ssh_config(machines: Iterable[Machine], known_hosts: Path) -> str:
    """The whole of what ssh is told; it reads no other file. A host that is no target is refused."""
    common = [
        "StrictHostKeyChecking yes",
        f"UserKnownHostsFile {known_hosts}",
        "GlobalKnownHostsFile none",
        "UpdateHostKeys no",
        "CheckHostIP no",
        "VerifyHostKeyDNS no",
        "ForwardAgent no",
        "ForwardX11 no",
        "PermitLocalCommand no",
        "GSSAPIAuthentication no",
        "HostbasedAuthentication no",
        "IdentityAgent none",
        f"ServerAliveInterval {_ALIVE_EVERY_SECONDS}",
        "ServerAliveCountMax 3",
        # The first word for something wins in ssh, and a target's own block stands before: this is for all others.
        f"HostName {NO_TARGET_HOST}",
    ]
    blocks = [block for machine in machines for block in machine.ssh_blocks]
    return "\n".join([*blocks, "Host *", *(f"  {line}" for line in common), ""])


def ansible_cfg(folder: Path) -> str:
    """Settings of ansible. None but these count: the worker's own files and environment are not looked at."""
    ssh = f"-F {folder / 'ssh_config'} -o ControlMaster=auto -o ControlPersist={_KEPT_SECONDS}s"
    return "\n".join(
        [
            "[defaults]",
            f"home = {folder / 'home'}",
            f"local_tmp = {folder / 'tmp'}",
            f"timeout = {CONNECT_SECONDS}",
            "host_key_checking = True",
            "nocows = True",
            "nocolor = True",
            "retry_files_enabled = False",
            "deprecation_warnings = False",
            "localhost_warning = False",
            "inventory_unparsed_warning = False",
            "[inventory]",
            "enable_plugins = yaml",
            "[ssh_connection]",
            f"ssh_args = {ssh}",
            f"control_path_dir = {folder / 'cp'}",
            # A task then has a terminal at the far side, and ends with its connection when the run is stopped.
            "pipelining = False",
            "usetty = True",
            "retries = 0",
            "",
        ]
    )


def inventory(machines: Iterable[Machine]) -> str:
    hosts = {machine.alias: dict(machine.variables) for machine in machines}
    # A host that a task is delegated to, and that is no target, has no connection of its own: without this, the play's
    # word `connection: local` would let it run on the worker.
    return _as_data({"all": {"hosts": hosts, "vars": {"ansible_connection": "ssh"}}})


def extra_vars(values: Mapping[str, Any]) -> str:
    """Variables of the plan as data: ansible evaluates no template in them."""
    return _as_data(values)


def wrapper(playbook: Path) -> str:
    """The playbook, and after it one task that each host comes to that went through all of it.

    Without it, hosts that ansible left behind (any_errors_fatal, max_fail_percentage, a batch of serial that failed)
    could not be told from those that are through.
    """
    end = {
        "name": END_TASK,
        "ansible.builtin.debug": {"msg": ""},
        "tags": ["always"],
        "vars": {"ansible_become": False},
    }
    plays = [
        {"name": "The playbook", "ansible.builtin.import_playbook": str(playbook)},
        {"name": END_TASK, "hosts": "all", "gather_facts": False, "tasks": [end], "strategy": "linear"},
    ]
    return yaml.safe_dump(plays, sort_keys=False, allow_unicode=True)


def _as_data(value: Mapping[str, Any]) -> str:
    """`!unsafe` on the whole: nothing in it is a template. On a single text it would make a number of "0644"."""
    return f"--- !unsafe\n{yaml.dump(value, Dumper=_WithoutAliases, sort_keys=False, allow_unicode=True)}"


class _WithoutAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True
