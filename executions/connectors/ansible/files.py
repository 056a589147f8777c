"""What ansible-playbook is given besides the targets: SSH configuration, settings, inventory, variables, the playbook.

Everything that says how a machine is reached stands in one SSH configuration of the run's own, so that neither the
worker's own files nor the playbook's words (`remote_user`, `connection`) can lead it to another machine, or there as
somebody else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from executions.connectors.ansible.machines import Machine

CONNECT_SECONDS = 10
_ALIVE_EVERY_SECONDS = 15
_KEPT_SECONDS = 15  # of a connection between two tasks; all are ended with the run
NO_TARGET_HOST = "no-target-of-this-step.invalid"  # RFC 6761: that name is nobody's
END_TASK = "OpsConductor: the end of the playbook"


def ssh_config(machines: Iterable[Machine], known_hosts: Path) -> str:
    """The whole of what ssh is told; it reads no other file. A host that is no target is refused."""
    common = [
        "StrictHostKeyChecking yes",
        f"UserKnownHostsFile {known_hosts}",
        "GlobalKnownHostsFile none",
        "UpdateHostKeys no",
        "LogLevel ERROR",  # not that a shared connection was closed, in what a task wrote to its standard error
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
