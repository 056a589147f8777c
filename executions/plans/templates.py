"""Templates of a plan: `{{ hostname }}`, `{{ assets[0].hostname }}`, `{{ steps.ID.stdout }}`, and nothing more.

No expressions, filters or loops: a template names one value, and a value that is not there is an error, never empty
text. `{{ "..." }}` writes its text literally, so `{{ "{{" }}` makes two braces. What belongs to Go templates
(`{{.Names}}`, `{{range .Mounts}}`, `{{end}}`) or awk (`{{print $1}}`) is ordinary text here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

OUTPUTS = ("stdout", "stderr", "exit_code")
ROWS = ("assets", "rows")
EVERY = "*"
LONGEST = 500  # characters between the braces

_BRACES = re.compile(r"\{\{(\s*\"[^\"]*\"\s*|\s*'[^']*'\s*|[^{}]*)\}\}")
_TOKEN = re.compile(r"\.([\w-]+)|\[(\d{1,9})\]|\[(\*)\]|\[\"([^\"]*)\"\]|\['([^']*)'\]")
_NAME = re.compile(r"[A-Za-z_]\w*")
_QUOTED = re.compile(r"\"([^\"]*)\"|'([^']*)'")
# A word that begins with a dot or a dollar is of Go's templates, Prometheus or awk; a name of ours never does.
_FOREIGN = re.compile(r"(?:^|[\s(|,!-])[.$]|^-?\s*(?:end|else|else\s+if\s.*|break|continue)\s*-?$", re.DOTALL)


class UnresolvedTemplate(Exception):
    """A template names a value that is not there. Correct the plan, or the step or asset that should provide it."""


class BadTemplate(ValueError):
    """The text between the braces is not a template of ours."""


@dataclass(frozen=True, slots=True)
class Template:
    """One parsed template.

    kind     row: of the target; assets: rows of an asset-query; output: of a step; text: written literally
    step_id  whose rows or output; None for the rows of the nearest earlier asset-query
    path     row: keys and indexes; assets: index or `*`, then keys; output: stdout, stderr or exit_code; text: itself
    """

    kind: Literal["row", "assets", "output", "text"]
    step_id: str | None
    path: tuple[str | int, ...]

    @property
    def expression(self) -> str:
        """The template as it is stored, without the braces; its key in `TemplateContext.resolved`."""
        if self.kind == "text":
            return _quoted(str(self.path[0]))
        if self.kind == "row":
            return str(self.path[0]) + _accessors(self.path[1:])
        head = "" if self.step_id is None else f"steps[{_quoted(self.step_id)}]."
        if self.kind == "output":
            return f"{head}{self.path[0]}"
        return f"{head}assets{_accessors(self.path)}"


@dataclass(frozen=True, slots=True)
class TemplateContext:
    """What templates can name when a step begins on a target.

    row       the target's row, as the stored plan has it; empty for a step without a target
    steps     by step id: `{"stdout": str, "stderr": str, "exit_code": int, "assets": [rows]}`, as far as known. Of a
              step with several targets, the values of the same target
    resolved  values that were fixed when the plan was submitted, by expression (`resolved` of the stored step); they
              win, so that what was approved is what is used
    """

    row: Mapping[str, object] = field(default_factory=dict)
    steps: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    resolved: Mapping[str, object] = field(default_factory=dict)


def render(value: object, context: TemplateContext, *, quote: Callable[[str], str] | None = None) -> object:
    """Return a copy of `value` with every template in it replaced; keys of mappings stay as they are.

    A string that is one template and nothing else becomes the value with its type; inside other text numbers, true,
    false, lists and objects are written as JSON. The trailing line breaks of stdout and stderr are dropped, as a shell
    does. `quote` is applied to every value put into text, which a command line needs (shlex.quote).
    Values are not looked through for templates again. Raises UnresolvedTemplate with a sentence.
    """
    if isinstance(value, str):
        return _render_text(value, context, quote) if "{{" in value else value
    if isinstance(value, Mapping):
        return {key: render(item, context, quote=quote) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [render(item, context, quote=quote) for item in value]
    return value


def _render_text(text: str, context: TemplateContext, quote: Callable[[str], str] | None) -> object:
    pieces = split(text)
    if len(pieces) == 1 and isinstance(pieces[0], Template) and quote is None:
        return evaluate(pieces[0], context)
    done: list[str] = []
    for piece in pieces:
        if isinstance(piece, str):
            done.append(piece)
        elif piece.kind == "text":
            done.append(str(piece.path[0]))
        else:
            written = as_text(evaluate(piece, context))
            done.append(quote(written) if quote is not None else written)
    return "".join(done)


def split(text: str) -> list[str | Template]:
    """Cut text into literal parts and templates, in order. Raises BadTemplate, whose argument is the bad one."""
    pieces: list[str | Template] = []
    literal_from = 0
    for found in _BRACES.finditer(text):
        inner = found.group(1).strip()
        if _FOREIGN.search(_QUOTED.sub('""', inner)):  # in quotes, as in steps["a|.b"], it is a name
            continue
        if found.start() > literal_from:
            pieces.append(text[literal_from : found.start()])
        if len(inner) > LONGEST:
            raise BadTemplate(inner[:LONGEST])
        pieces.append(parse(inner))
        literal_from = found.end()
    if literal_from < len(text):
        pieces.append(text[literal_from:])
    return pieces


@lru_cache(maxsize=4096)
def parse(inner: str) -> Template:
    """Parse what stands between the braces. Raises BadTemplate with it."""
    if quoted := _QUOTED.fullmatch(inner):
        return Template("text", None, (quoted.group(1) if quoted.group(1) is not None else quoted.group(2),))
    name = _NAME.match(inner)
    if name is None:
        raise BadTemplate(inner)
    path = _tokens(inner, name.end())
    if name.group() == "steps":
        return _of_step(inner, path)
    if name.group() in ROWS:
        return Template("assets", None, _rows_path(inner, path))
    if EVERY in path:
        raise BadTemplate(inner)
    return Template("row", None, (name.group(), *path))


def _tokens(inner: str, start: int) -> tuple[str | int, ...]:
    path: list[str | int] = []
    while start < len(inner):
        token = _TOKEN.match(inner, start)
        if token is None:
            raise BadTemplate(inner)
        index = token.group(2)
        path.append(int(index) if index is not None else str(token.group(token.lastindex or 0)))
        start = token.end()
    return tuple(path)


def _of_step(inner: str, path: tuple[str | int, ...]) -> Template:
    """`steps.ID.stdout`, where an ID with dots reads as several names until the first one that is ours."""
    for at in range(1, len(path)):
        step_id = ".".join(str(part) for part in path[:at])
        if path[at] in OUTPUTS and at == len(path) - 1:
            return Template("output", step_id, path[at:])
        if path[at] in ROWS:
            return Template("assets", step_id, _rows_path(inner, path[at + 1 :]))
    raise BadTemplate(inner)


def _rows_path(inner: str, path: tuple[str | int, ...]) -> tuple[str | int, ...]:
    if path and isinstance(path[0], str) and path[0] != EVERY:
        return (EVERY, *path)  # `assets.hostname`: of every row
    if EVERY in path[1:]:
        raise BadTemplate(inner)
    return path


def _accessors(path: Sequence[str | int]) -> str:
    return "".join(
        f"[{part}]" if isinstance(part, int) or part == EVERY else f".{part}" if _plain(part) else f"[{_quoted(part)}]"
        for part in path
    )


def _quoted(text: str) -> str:
    quote = "'" if '"' in text else '"'
    return f"{quote}{text}{quote}"


def _plain(part: str) -> bool:
    return re.fullmatch(r"[\w-]+", part) is not None


def templates_in(value: object) -> Iterator[tuple[str, Template | BadTemplate]]:
    """Yield every template in `value` with its path (`.argv[0]`); one that is not ours as the BadTemplate it raised."""
    if isinstance(value, str):
        if "{{" in value:
            try:
                yield from (("", piece) for piece in split(value) if isinstance(piece, Template))
            except BadTemplate as bad:
                yield "", bad
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from ((f".{key}{path}", found) for path, found in templates_in(item))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from ((f"[{index}]{path}", found) for path, found in templates_in(item))


def rewrite(value: object, change: Callable[[Template], str]) -> object:
    """Return a copy of `value` in which the inside of each template is what `change` says."""
    if isinstance(value, str):
        if "{{" not in value:
            return value
        return "".join(piece if isinstance(piece, str) else "{{ " + change(piece) + " }}" for piece in split(value))
    if isinstance(value, Mapping):
        return {key: rewrite(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rewrite(item, change) for item in value]
    return value


def evaluate(template: Template, context: TemplateContext) -> object:
    """The value that a template names. Raises UnresolvedTemplate when there is none, or it is null."""
    if template.kind == "text":
        return template.path[0]
    if context.resolved and template.expression in context.resolved:
        return context.resolved[template.expression]
    if template.kind == "row":
        return walk(context.row, template.path, "the target", template)
    if template.step_id is None:
        raise UnresolvedTemplate(f"{{{{ {template.expression} }}}} comes after no asset-query.")
    values = context.steps.get(template.step_id)
    if values is None:
        raise UnresolvedTemplate(
            f"Step {template.step_id} has no output that {{{{ {template.expression} }}}} could take."
        )
    if template.kind == "assets":
        return walk(values, ("assets", *template.path), f"step {template.step_id}", template)
    value = walk(values, template.path, f"step {template.step_id}", template)
    return value.rstrip("\r\n") if isinstance(value, str) else value


def walk(source: object, path: Sequence[str | int], whose: str, template: Template) -> object:
    """Follow `path` into `source`. Raises UnresolvedTemplate where a part is absent, out of range or null."""
    for at, part in enumerate(path):
        if part == EVERY and isinstance(source, (list, tuple)):
            return [walk(item, path[at + 1 :], whose, template) for item in source]
        if isinstance(source, (list, tuple)) and isinstance(part, int) and part < len(source):  # noqa: SIM114
            source = source[part]
        elif isinstance(source, Mapping) and part in source:
            source = source[part]
        else:
            raise UnresolvedTemplate(f"{{{{ {template.expression} }}}}: {whose} has no {_said(part)}.")
    if source is None or (source == "" and template.kind != "output"):
        last = _said(path[-1]) if path else "value"
        raise UnresolvedTemplate(f"{{{{ {template.expression} }}}}: {whose} has no value for {last}.")
    return source


def _said(part: str | int) -> str:
    return f"row {part}" if isinstance(part, int) else str(part)


def as_text(value: object) -> str:
    """A value as it is written inside other text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
