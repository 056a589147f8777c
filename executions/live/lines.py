"""An execution as lines on a terminal: each event a line, each line of output a line with its target before it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Protocol

from django.utils.termcolors import make_style

from executions.live.feed import FeedItem

MAX_PARTIAL = 64 * 1024  # characters of a line without an end, after which it is shown as it is

# A carriage return alone ends a line too (progress bars); at the end of the text a line feed may still follow it.
_LINE_END = re.compile(r"\r\n|\n|\r(?=.)", re.DOTALL)

# What a program prints must not move the cursor, recolour or retitle the terminal of whoever looks on.
_VISIBLE: dict[int, int | str] = {code: 0x2400 + code for code in range(0x20) if code not in (0x09, 0x0A)}
_VISIBLE |= {0x7F: 0x2421} | {code: f"\\x{code:02x}" for code in range(0x80, 0xA0)}

_COLOURS = {
    "succeeded": make_style(fg="green"),
    "failed": make_style(fg="red", opts=("bold",)),
    "timed_out": make_style(fg="red", opts=("bold",)),
    "partial": make_style(fg="red"),
    "unknown": make_style(fg="magenta", opts=("bold",)),
    "needs_attention": make_style(fg="magenta", opts=("bold",)),
    "cancelling": make_style(fg="yellow"),
    "cancelled": make_style(fg="yellow"),
    "skipped": make_style(fg="yellow"),
    "stderr": make_style(fg="red"),
    "prefix": make_style(fg="cyan"),
}


class Out(Protocol):
    def write(self, text: str, /) -> object: ...
    def flush(self) -> object: ...


class LiveLines:
    """Writes feed items as whole lines: the output of targets that print at the same time is never mixed in a line."""

    def __init__(self, out: Out, *, colours: bool) -> None:
        self._out = out
        self._colours = colours
        self._partial: dict[tuple[int, str], tuple[str, str, str]] = {}  # (target, stream) -> step, prefix, text so far

    def show(self, items: list[FeedItem]) -> None:
        for item in items:
            for line in self._output(item["data"]) if item["kind"] == "output" else self._event(item):
                self._out.write(f"{line}\n")
        self._out.flush()

    def close(self) -> None:
        """Write what is left without a line end."""
        for line in self._flush(None):
            self._out.write(f"{line}\n")
        self._out.flush()

    def _output(self, data: dict[str, Any]) -> Iterator[str]:
        stream = data["stream"]
        key = (data["step_target"], stream)
        name = f"{_step(data)}@{data['target']}" if data["target"] else _step(data)
        prefix = f"  {visible(name)} {'|' if stream == 'stdout' else '!'} "
        text = self._partial.pop(key, ("", "", ""))[2] + data["text"]
        *lines, rest = _LINE_END.split(text)
        for line in lines:
            yield self._output_line(prefix, stream, line)
        if len(rest) > MAX_PARTIAL:
            yield self._output_line(prefix, stream, rest)
        elif rest:
            self._partial[key] = (_step(data), prefix, rest)

    def _output_line(self, prefix: str, stream: str, line: str) -> str:
        text = visible(line)
        return self._in_colour("prefix", prefix) + (self._in_colour("stderr", text) if stream == "stderr" else text)

    def _event(self, item: FeedItem) -> Iterator[str]:
        subject, _, verb = item["kind"].partition(".")
        data = item["data"]
        yield from self._flush(_step(data) if subject in ("step", "target") else None)
        where = [name for name in (_step(data), str(data.get("target") or "")) if name]
        words = [subject if not where else f"{subject} {' on '.join(where)}:", verb.replace("_", " ")]
        if isinstance(data.get("exit_code"), int):
            words.append(f"(exit code {data['exit_code']})")
        if data.get("error"):
            words.append(f"- {data['error']}")
        if item["reason"]:
            words.append(f"- {item['reason']}")
        if item["actor"].startswith("user:"):
            words.append(f"[{item['actor'].removeprefix('user:')}]")
        yield f"{item['at'][11:19]} {self._in_colour(verb, visible(' '.join(words)))}"

    def _flush(self, step: str | None) -> Iterator[str]:
        """Yield the unfinished lines of a step, or of all: nothing more comes after them."""
        for key, (of_step, prefix, text) in list(self._partial.items()):
            if step is None or step == of_step:
                del self._partial[key]
                yield self._output_line(prefix, key[1], text.removesuffix("\r"))

    def _in_colour(self, name: str, text: str) -> str:
        return _COLOURS[name](text) if self._colours and name in _COLOURS else text


def _step(data: dict[str, Any]) -> str:
    """The step of an item as it is named in a line; what undoes a step has its id."""
    key = str(data.get("step") or "")
    return f"undo {key}" if key and data.get("kind") == "rollback" else key


def visible(text: str) -> str:
    """Return text with its control characters as pictures; tabs stay."""
    return text.translate(_VISIBLE).replace("\n", "␊")
