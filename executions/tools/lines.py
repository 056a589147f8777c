"""In which line of a catalog file an entry stands, so that a fault can be pointed at."""

from __future__ import annotations

import re
from collections.abc import Sequence

import yaml


class Lines:
    """The lines of the entries of one YAML file that could be read."""

    def __init__(self, text: str) -> None:
        self._lines: dict[tuple[str, ...], int] = {}
        self._note((), yaml.compose(text, Loader=yaml.SafeLoader), set())

    def _note(self, path: tuple[str, ...], node: yaml.Node | None, above: set[int]) -> None:
        if id(node) in above:  # an alias of something that it stands in
            return
        pairs: list[tuple[str, int, yaml.Node]] = []
        if isinstance(node, yaml.MappingNode):
            pairs = [(str(key.value), key.start_mark.line, value) for key, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            pairs = [(str(at), entry.start_mark.line, entry) for at, entry in enumerate(node.value)]
        for name, line, value in pairs:
            self._lines.setdefault((*path, name), line + 1)
            self._note((*path, name), value, above | {id(node)})

    def of(self, path: Sequence[object]) -> int:
        """The line of the entry, or of the nearest one around it that is there; 1 for the file as a whole."""
        way = tuple(map(str, path))
        return next((self._lines[way[:n]] for n in range(len(way), 0, -1) if way[:n] in self._lines), 1)

    def spoken_of(self, sentence: str) -> int:
        """The line of what a sentence about the entries speaks of: a case, a parameter, or an entry of the tool."""
        case = re.match(r"case ([^:]+): ", sentence)
        if case:
            return self.of(("by_action", "cases", case[1]))
        words = re.findall(r"[A-Za-z][A-Za-z0-9_.-]*", sentence)
        for above in (("parameters",), ()):
            for word in words:
                line = self._lines.get((*above, word.rstrip(".")))
                if line is not None:
                    return line
        return 1
