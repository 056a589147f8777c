"""YAML without surprises: the words of YAML 1.2, no objects, no duplicate keys, no aliases that blow up.

Built from libyaml's events on a stack of our own, so that neither nesting nor aliases can cost more than the limits.
Numbers are those of JSON: `0644`, `12:30` and `1_000` stay text, as do `yes`, `no`, `on` and dates.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,400})")
_NUMBER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = frozenset({".nan", ".NaN", ".NAN", ".inf", ".Inf", ".INF", "-.inf", "-.Inf", "-.INF", "+.inf"})
_WORDS: dict[str, object] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = frozenset({f"{_TAG}str", f"{_TAG}int", f"{_TAG}float", f"{_TAG}bool", f"{_TAG}null"})
_MERGE = "<<"


class NotYaml(Exception):
    """The text is not the YAML that a plan may be written in. Line and column count from 1."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column


class TooLarge(Exception):
    """The document, aliases expanded, is larger or deeper than the limits."""


class _Open:
    """A list or mapping whose end has not been read yet."""

    __slots__ = ("anchor", "key", "keys", "merged", "started_at", "value", "wants_key")

    def __init__(self, value: list[Any] | dict[Any, Any], anchor: str | None, started_at: int) -> None:
        self.value = value
        self.anchor = anchor
        self.started_at = started_at  # the size of the document before it
        self.key: Any = None
        self.wants_key = True
        self.keys: set[Any] = set()
        self.merged: dict[Any, Any] = {}


class _Builder:
    def __init__(self, max_depth: int, max_size: int) -> None:
        self.max_depth = max_depth
        self.max_size = max_size
        self.size = 0
        self.stack: list[_Open] = []
        self.anchors: dict[str, tuple[object, int]] = {}
        self.result: object = None

    def grow(self, by: int) -> None:
        self.size += by
        if self.size > self.max_size:
            raise TooLarge(f"The document, its aliases expanded, is larger than {self.max_size:,} bytes.")

    def begin(self, event: Any, value: list[Any] | dict[Any, Any]) -> None:
        if event.tag not in (None, "!", f"{_TAG}seq", f"{_TAG}map"):
            raise _trouble(f"the tag {event.tag} is not allowed", event)
        if len(self.stack) >= self.max_depth:
            raise TooLarge(f"The document is nested deeper than {self.max_depth} levels.")
        top = self.stack[-1] if self.stack else None
        if top is not None and isinstance(top.value, dict) and top.wants_key:
            raise _trouble("a key must be text", event)
        self.grow(1)
        self.anchors.pop(event.anchor, None)
        self.stack.append(_Open(value, event.anchor, self.size))

    def end(self, event: Any) -> None:
        closed = self.stack.pop()
        if isinstance(closed.value, dict) and closed.merged:
            for key, value in closed.merged.items():
                closed.value.setdefault(key, value)
        self._anchor(closed.anchor, closed.value, self.size - closed.started_at)
        self.put(closed.value, event)

    def scalar(self, event: Any) -> None:
        self.grow(1 + len(event.value))
        value = _scalar(event)
        self._anchor(event.anchor, value, len(event.value))
        self.put(value, event)

    def alias(self, event: Any) -> None:
        if event.anchor not in self.anchors:
            raise _trouble("an alias must name an anchor that is complete before it", event)
        value, size = self.anchors[event.anchor]
        self.grow(1 + size)
        self.put(value, event)

    def _anchor(self, name: str | None, value: object, size: int) -> None:
        if name is not None:
            self.anchors[name] = (value, size)

    def put(self, value: object, event: Any) -> None:
        if not self.stack:
            self.result = value
            return
        top = self.stack[-1]
        if isinstance(top.value, list):
            top.value.append(value)
        elif top.wants_key:
            if value is None or isinstance(value, (list, dict)):
                raise _trouble("a key must be text", event)
            key = ("false", "true")[value] if isinstance(value, bool) else str(value)
            if key in top.keys:
                raise _trouble("the same key is given twice", event)
            top.keys.add(key)
            top.key, top.wants_key = key, False
        else:
            top.wants_key = True
            if top.key == _MERGE:
                _merge(top, value, event)
            else:
                top.value[top.key] = value


def parse_yaml(text: str, *, max_depth: int, max_size: int) -> object:
    """Return the single document in `text` as plain values; parts that aliases name are shared, not copied.

    max_size: characters, counting an alias as all that it stands for. Raises NotYaml, TooLarge.
    """
    builder = _Builder(max_depth, max_size)
    documents = 0
    try:
        parser = yaml.CSafeLoader(text)
        while (event := parser.get_event()) is not None:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _trouble("a second document begins", event)
            elif isinstance(event, yaml.MappingStartEvent):
                builder.begin(event, {})
            elif isinstance(event, yaml.SequenceStartEvent):
                builder.begin(event, [])
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                builder.end(event)
            elif isinstance(event, yaml.ScalarEvent):
                builder.scalar(event)
            elif isinstance(event, yaml.AliasEvent):
                builder.alias(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = error.problem or error.context or "it is not YAML"
        raise NotYaml(said, mark.line + 1 if mark else 1, mark.column + 1 if mark else 1) from None
    except yaml.reader.ReaderError as error:
        line, column = _place(text, error.position)
        raise NotYaml("a character is not allowed", line, column) from None
    except UnicodeEncodeError as error:
        line, column = _place(text, error.start)
        raise NotYaml("a character is not allowed", line, column) from None
    return builder.result


def _scalar(event: Any) -> object:
    text = str(event.value)
    if event.tag not in (None, "!") and event.tag not in _PLAIN_TAGS:
        raise _trouble(f"the tag {event.tag} is not allowed", event)
    if event.tag in ("!", f"{_TAG}str") or (event.tag is None and not event.implicit[0]):
        return text
    if text in _WORDS:
        return _WORDS[text]
    if text in _NOT_FINITE:
        raise _trouble("NaN and infinity are not numbers of a plan", event)
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text):
        return float(text)
    return text


def _merge(top: _Open, value: object, event: Any) -> None:
    """`<<: *defaults`: what the mapping does not say itself. The sizes were counted when the aliases were read."""
    for source in value if isinstance(value, list) else [value]:
        if not isinstance(source, dict):
            raise _trouble("only a mapping can be merged", event)
        for key, item in source.items():
            top.merged.setdefault(key, item)


def _trouble(message: str, event: Any) -> NotYaml:
    mark = event.start_mark
    return NotYaml(message, mark.line + 1, mark.column + 1)


def _place(text: str, position: int) -> tuple[int, int]:
    before = text[:position]
    return before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1
