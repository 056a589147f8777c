"""The YAML form: groups with `hosts`, `vars` and `children`; and files of variables."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from executions.ansible_inventory.ini import VAULT
from executions.ansible_inventory.patterns import NoPattern, hosts_of
from executions.ansible_inventory.tree import ALL, Tree, Value, Variables

MAX_DEPTH = 60
MOST_NODES = 1_000_000  # an alias counted as all that it stands for
_NULL = "tag:yaml.org,2002:null"
_KINDS = ("str", "int", "float", "bool", "null", "timestamp")
_PLAIN_TAGS = frozenset({*(f"tag:yaml.org,2002:{kind}" for kind in _KINDS), "!unsafe", "!vault"})


class _Trouble(Exception):
    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def parse_yaml(text: str, tree: Tree) -> None:
    """Put what the text says into the tree. Raises TooManyHosts."""
    reader = _Reader(tree)
    try:
        root = _root(text)
        if root is not None:
            for name, node, line in reader.pairs(root, "The file"):
                reader.group(name, node, line, ALL, 0)
    except _Trouble as trouble:
        tree.refuse(trouble.line, str(trouble))


def parse_variables(text: str, tree: Tree) -> Variables:
    """Return the variables of a file in group_vars or host_vars."""
    reader = _Reader(tree)
    try:
        root = _root(text)
        return reader.variables(root, "The file") if root is not None else {}
    except _Trouble as trouble:
        tree.refuse(trouble.line, str(trouble))
        return {}


def _root(text: str) -> yaml.Node | None:
    """Return the document as nodes, which know their lines. Nested too deeply, it never reaches the composer."""
    depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise _Trouble(_line(event), f"It is nested deeper than {MAX_DEPTH} levels.")
        node: yaml.Node | None = yaml.compose(text, Loader=yaml.CSafeLoader)
        return node
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = error.problem or error.context or "it cannot be read"
        raise _Trouble(mark.line + 1 if mark else 0, f"This is not YAML: {said}.") from None
    except (yaml.reader.ReaderError, UnicodeEncodeError):
        raise _Trouble(0, "This is not YAML: a character is not allowed.") from None


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


class _Reader:
    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.nodes = 0

    def pairs(self, node: yaml.Node, what: str) -> Iterator[tuple[str, yaml.Node, int]]:
        """Yield (key, value, line) of a mapping. `<<` is followed, and gives way to what the mapping says itself."""
        if not isinstance(node, yaml.MappingNode):
            if isinstance(node, yaml.ScalarNode) and node.tag == _NULL:
                return
            raise _Trouble(node.start_mark.line + 1, f"{what} must have names with what they stand for.")
        seen: set[str] = set()
        merges: list[yaml.Node] = []
        for key, value in node.value:
            self._count(key)
            if not isinstance(key, yaml.ScalarNode):
                raise _Trouble(key.start_mark.line + 1, "A key must be text.")
            if key.value == "<<":
                merges += value.value if isinstance(value, yaml.SequenceNode) else [value]
                continue
            if key.value in seen:
                raise _Trouble(key.start_mark.line + 1, f"{key.value!r} is given twice.")
            seen.add(key.value)
            yield key.value, value, key.start_mark.line + 1
        for merged in merges:
            for name, value, line in self.pairs(merged, "What << merges"):
                if name not in seen:
                    seen.add(name)
                    yield name, value, line

    def group(self, name: str, node: yaml.Node, line: int, parent: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise _Trouble(line, f"Groups are nested deeper than {MAX_DEPTH} levels.")
        group = self.tree.group(name, line)
        if parent != ALL:
            self.tree.group(parent, line).children[name] = None
        for part, value, where in self.pairs(node, f"The group {name!r}"):
            if part == "hosts":
                self._hosts(name, value)
            elif part == "vars":
                group.variables |= self.variables(value, f"vars of {name!r}")
            elif part == "children":
                for child, inner, at in self.pairs(value, f"children of {name!r}"):
                    self.group(child, inner, at, name, depth + 1)
            else:
                self.tree.refuse(where, f"The group {name!r} has {part!r}; a group has hosts, vars and children.")

    def _hosts(self, group: str, node: yaml.Node) -> None:
        for pattern, value, line in self.pairs(node, f"hosts of {group!r}"):
            variables = self.variables(value, f"The host {pattern!r}")
            try:
                names, port = hosts_of(pattern)
            except NoPattern as error:
                self.tree.refuse(line, str(error))
                continue
            if port is not None:
                variables.setdefault("ansible_port", Value((port,), line, self.tree.source))
            for name in names:
                self.tree.host(name, line, group).variables.update(variables)

    def variables(self, node: yaml.Node, what: str) -> Variables:
        return {name: self._value(value, line) for name, value, line in self.pairs(node, what)}

    def _value(self, node: yaml.Node, line: int) -> Value:
        source = self.tree.source
        if isinstance(node, yaml.ScalarNode):
            if node.tag not in _PLAIN_TAGS:
                raise _Trouble(line, f"The tag {node.tag} is not understood here.")
            if node.tag == _NULL:
                return Value((), line, source)
            return Value((node.value,), line, source, node.tag == "!vault" or node.value.startswith(VAULT))
        items = node.value if isinstance(node, yaml.SequenceNode) else []
        if isinstance(node, yaml.SequenceNode) and all(isinstance(item, yaml.ScalarNode) for item in items):
            return Value(tuple(item.value for item in items if item.tag != _NULL), line, source)
        return Value(None, line, source)

    def _count(self, node: yaml.Node) -> None:
        self.nodes += 1
        if self.nodes > MOST_NODES:
            raise _Trouble(node.start_mark.line + 1, "With its aliases expanded it is too large.")
