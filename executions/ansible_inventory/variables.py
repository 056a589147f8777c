"""From the variables of a host to the columns of an asset: what is ours, what is refused, what is left out."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from executions.ansible_inventory.tree import ALL, UNGROUPED, Host, Tree, Value, merged
from executions.inventory_files import COLUMNS, SECRET_COLUMNS, FileContent, RawRow
from executions.models import Connection
from safety.masking.keys import names_a_secret

PREFIX = "opsconductor_"
# Columns that inventories may well have under their own name, meaning the same. The others only with the prefix.
SHARED = frozenset(
    {
        "environment", "criticality", "owner", "support_contact", "description", "credential", "host_key", "tags",
        "os_type", "os_version", "device_type", "external_id",
    }
)  # fmt: skip
CONNECTIONS = {
    "ssh": Connection.SSH, "smart": Connection.SSH, "paramiko": Connection.SSH, "paramiko_ssh": Connection.SSH,
    "winrm": Connection.POWERSHELL, "psrp": Connection.POWERSHELL, "local": Connection.LOCAL,
}  # fmt: skip
CONNECTION = "ansible_connection"
ADDRESS = ("ansible_host", "ansible_ssh_host", "ansible_psrp_host", "ansible_winrm_host")
PORT = ("ansible_port", "ansible_ssh_port", "ansible_psrp_port", "ansible_winrm_port")
USER = ("ansible_user", "ansible_ssh_user", "ansible_psrp_user", "ansible_winrm_user")
UNDERSTOOD = frozenset({CONNECTION, *ADDRESS, *PORT, *USER, "ansible_group_priority"})
_SHOWN = 20


def rows_of(tree: Tree) -> FileContent:
    """Return an asset for each host. What is refused is told once for each place in which it stands."""
    content = FileContent()
    memberships = tree.memberships()
    _refuse_secrets(tree)
    unknown: set[str] = set()
    for host in tree.hosts.values():
        variables = merged(host, memberships[host.name])
        unknown |= {name for name in variables if name not in UNDERSTOOD and _column(name) is None}
        if (cells := _cells(host, variables, tree)) is None:
            continue
        names = [group.name for group in memberships[host.name] if group.name not in (ALL, UNGROUPED)]
        if any(";" in name for name in names):
            tree.refuse(host.line, f"A group of {host.name!r} has ; in its name; none can have that here.", host.source)
        elif names:
            cells["groups"] = ";".join(sorted(names))
        content.rows.append(RawRow(host.line, cells, host.source))
    content.problems = tree.problems
    if unknown:
        named = ", ".join(sorted(unknown)[:_SHOWN])
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        content.remarks.append(f"Variables that mean nothing here were left out: {named}{more}.")
    return content


def _column(name: str) -> str | None:
    """The column that a variable fills; None when it is none of ours."""
    column = name.removeprefix(PREFIX)
    return column if column in COLUMNS[1:] and (column != name or column in SHARED) else None


def _refuse_secrets(tree: Tree) -> None:
    """Refuse every secret that is given by value, by the name of the variable and never by what it holds."""
    places: dict[tuple[str, str, int], list[str]] = {}
    given = [(group.name, {**group.variables, **group.beside}) for group in tree.groups.values()]
    given += [(host.name, host.variables) for host in tree.hosts.values()]
    for owner, variables in given:
        for name, value in variables.items():
            if _is_secret(name) and not (value.is_template or value.texts == ()):
                places.setdefault((name, value.source, value.line), []).append(owner)
    for (name, source, line), named in places.items():
        whose = repr(named[0]) if len(named) == 1 else f"{named[0]!r} and {len(named) - 1} more"
        tree.refuse(
            line,
            f"The variable {name} of {whose} would bring in a secret. Keep it with `manage.py set_secret PATH`, take it"
            " out, and give the path in the variable opsconductor_credential.",
            source,
        )


def _is_secret(name: str) -> bool:
    """By which a machine is signed in to. Secrets of other things mean nothing here: they are left out, unread."""
    if name.removeprefix(PREFIX) == "credential":
        return False
    return (name.startswith(("ansible_", PREFIX)) and names_a_secret(name)) or name in SECRET_COLUMNS


def _cells(host: Host, variables: Mapping[str, Value], tree: Tree) -> dict[str, str] | None:
    """The cells of a host; None when there is no way to reach it, which has been told."""
    cells: dict[str, str] = {"name": host.name}
    if f"{PREFIX}connection" not in variables:  # said for us, it is a column like any other
        connection = _connection(host, variables, tree)
        if connection is None:
            return None
        cells["connection"] = connection
        if connection == Connection.POWERSHELL:
            cells["os_type"] = "windows"  # nothing else speaks WinRM
    _place(host, _first(host, variables, ADDRESS, tree), cells)
    if port := _first(host, variables, PORT, tree):
        cells["port"] = port
    if user := _first(host, variables, USER, tree):
        domain, backslash, name = user.partition("\\")
        cells |= {"domain": domain, "username": name} if backslash and domain and name else {"username": user}
    for name in sorted(variables, key=lambda name: name.startswith(PREFIX)):  # the prefix says it for us alone: it wins
        column = _column(name)
        if column is None or not variables[name].texts:
            continue
        if text := _known(host, name, variables[name], tree):
            cells[column] = text
    return cells


def _connection(host: Host, variables: Mapping[str, Value], tree: Tree) -> str | None:
    given = _first(host, variables, (CONNECTION,), tree) or "smart"
    word = given.lower().rpartition(".")[2]  # ansible.builtin.ssh
    connection = CONNECTIONS.get(word)
    if connection is None:
        line, source = _where(host, variables, CONNECTION)
        tree.refuse(
            line,
            f"{host.name!r} is reached by {given!r}, which there is no connection for. Give opsconductor_connection"
            " (local, ssh, powershell, api), or leave the host out.",
            source,
        )
    elif connection == Connection.LOCAL and not _is_this_machine(host, variables):
        line, source = _where(host, variables, CONNECTION)
        tree.refuse(
            line,
            f"Steps on {host.name!r} would run on the worker's own machine: its connection is local. Give"
            " opsconductor_connection: local if it is that machine, another connection if not.",
            source,
        )
    return None if connection is None else str(connection)


def _is_this_machine(host: Host, variables: Mapping[str, Value]) -> bool:
    address = next((variables[name].text for name in ADDRESS if name in variables), host.name)
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address.lower() in ("localhost", "localhost.localdomain")


def _place(host: Host, address: str | None, cells: dict[str, str]) -> None:
    """Where the machine is: its address, or its name where none is given."""
    at = address or host.name
    try:
        cells["ip_address"] = str(ipaddress.ip_address(at))
    except ValueError:
        cells["hostname"] = at
    else:
        if "." in host.name and host.name != at:
            cells["hostname"] = host.name


def _first(host: Host, variables: Mapping[str, Value], names: tuple[str, ...], tree: Tree) -> str | None:
    for name in names:
        if name in variables and variables[name].texts:
            return _known(host, name, variables[name], tree)
    return None


def _known(host: Host, name: str, value: Value, tree: Tree) -> str | None:
    """The text of a value, None when it has none that is known without running Ansible."""
    if value.is_template:
        tree.refuse(
            value.line,
            f"{name} of {host.name!r} is a template, and none is rendered here. Write what it stands for.",
            value.source,
        )
        return None
    if value.is_vault:
        tree.refuse(value.line, f"{name} of {host.name!r} is encrypted. Write what it stands for.", value.source)
        return None
    return value.text.strip()


def _where(host: Host, variables: Mapping[str, Value], name: str) -> tuple[int, str]:
    given = variables.get(name)
    return (given.line, given.source) if given else (host.line, host.source)
