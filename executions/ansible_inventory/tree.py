"""Hosts and groups of an Ansible inventory, and which variables each host ends up with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from executions.inventory_files import RowProblem

ALL, UNGROUPED = "all", "ungrouped"
MOST_HOSTS = 100_000
PRIORITY = "ansible_group_priority"


@dataclass(frozen=True, slots=True)
class Value:
    """What a variable was given. `texts` None: a mapping, or lists within lists; nothing that a field could hold."""

    texts: tuple[str, ...] | None = field(repr=False)
    line: int = 0
    source: str = ""
    is_vault: bool = False

    @property
    def is_template(self) -> bool:
        return any("{{" in text or "{%" in text for text in self.texts or ())

    @property
    def text(self) -> str:
        return ";".join(self.texts or ())


Variables = dict[str, Value]


@dataclass(slots=True)
class Group:
    name: str
    line: int = 0
    source: str = ""
    variables: Variables = field(default_factory=dict)
    beside: Variables = field(default_factory=dict)  # of group_vars: they count more than any that the inventory has
    children: dict[str, None] = field(default_factory=dict)
    hosts: dict[str, None] = field(default_factory=dict)


@dataclass(slots=True)
class Host:
    name: str
    line: int = 0
    source: str = ""
    variables: Variables = field(default_factory=dict)


class TooManyHosts(Exception):
    """A range, or the whole inventory, names more hosts than anybody has: MOST_HOSTS."""


@dataclass(slots=True)
class Tree:
    """An inventory while it is read, of one file or several. What cannot be understood is in `problems`."""

    hosts: dict[str, Host] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    problems: list[RowProblem] = field(default_factory=list)
    source: str = ""  # the file that is being read, where there are several

    def refuse(self, line: int, message: str, source: str | None = None) -> None:
        self.problems.append(RowProblem(line, message, self.source if source is None else source))

    def group(self, name: str, line: int) -> Group:
        return self.groups.setdefault(name, Group(name, line, self.source))

    def host(self, name: str, line: int, group: str) -> Host:
        """Return the host, in this group from now on. Raises TooManyHosts."""
        if name not in self.hosts and len(self.hosts) >= MOST_HOSTS:
            raise TooManyHosts
        self.group(group, line).hosts[name] = None
        return self.hosts.setdefault(name, Host(name, line, self.source))

    def memberships(self) -> Mapping[str, list[Group]]:
        """Return the groups of each host with those around them, the nearest last: of variables the later one counts.

        Groups that contain themselves are refused, and count for nothing.
        """
        parents: dict[str, list[str]] = {}
        for group in self.groups.values():
            for child in group.children:
                parents.setdefault(child, []).append(group.name)
        depths = self._depths(parents)
        around = {name: self._around(name, parents) for name in depths}
        of_host: dict[str, set[str]] = {name: set() for name in self.hosts}
        for group in self.groups.values():
            for host in group.hosts:
                of_host[host] |= around.get(group.name, set())
        found = {}
        for host, names in of_host.items():
            groups = (self.groups[name] for name in names | ({ALL} & self.groups.keys()))
            found[host] = sorted(groups, key=lambda group: (depths[group.name], _priority(group), group.name))
        return found

    def _around(self, name: str, parents: Mapping[str, list[str]]) -> set[str]:
        found, waiting = set(), [name]
        while waiting:
            if (one := waiting.pop()) not in found:
                found.add(one)
                waiting += parents.get(one, [])
        return found

    def _depths(self, parents: Mapping[str, list[str]]) -> dict[str, int]:
        """How far from `all` each group is, by the longest way. Those in a circle are refused and at the end."""
        depths = {ALL: 0}
        waiting = {name: set(parents.get(name, ())) for name in self.groups if name != ALL}
        while ready := [name for name, parents in waiting.items() if parents <= depths.keys()]:
            for name in sorted(ready):
                depths[name] = 1 + max((depths[parent] for parent in waiting[name]), default=0)
            for name in ready:
                del waiting[name]
        for name in waiting:
            group = self.groups[name]
            self.refuse(group.line, f"The group {name!r} contains itself, or is in one that does.", group.source)
        return depths | dict.fromkeys(waiting, len(depths))


def _priority(group: Group) -> int:
    given = group.variables.get(PRIORITY)
    return int(given.text) if given and given.text.lstrip("-").isdecimal() and len(given.text) < 10 else 1


def merged(host: Host, groups: Sequence[Group]) -> Variables:
    """Return the variables of a host: those of its groups, the nearest last, and its own above all."""
    variables: Variables = {}
    for group in groups:
        variables |= group.variables
    for group in groups:
        variables |= group.beside
    return variables | host.variables
