"""A tool's parameters: what they are, and the check that each compiles to when the catalog is read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from executions.tools import containers, expectations, values
from executions.tools.problems import Unfit
from executions.tools.schema import ParameterSpec
from executions.tools.values import Check

# One argument of a process may have 131,071 bytes on Linux, and a character up to four of them.
_LONGEST_ARGUMENT = 32_000
_LONGEST_LIST = 1_000
_LONGEST_BODY = 5_000_000


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a tool.

    type         string, integer, number, boolean, list, mapping, path, duration, url, host, json, auth,
                 playbook or expectations
    default      in normal form; None: absent
    fixed        decides which of the tool's actions is meant: neither a template nor a secret can stand there
    in_argv      its value becomes part of a command line, which other users of the target can see
    sensitive    its value is not for the eyes of people; what an approver must see is not sensitive
    """

    name: str
    type: str
    description: str
    required: bool
    default: Any
    aliases: tuple[str, ...]
    enum: tuple[str, ...]
    pattern: str | None
    minimum: float | None
    maximum: float | None
    sensitive: bool
    fixed: bool
    in_argv: bool
    normalise: Check = field(repr=False)
    example: Any = None
    port_in: str | None = None

    @property
    def can_be_secret(self) -> bool:
        """True when a secret reference can stand in it and its value stays out of command lines."""
        holds_text = self.type in ("string", "mapping", "json", "url", "auth") and not self.enum
        return holds_text and not self.in_argv and not self.fixed


def build_parameter(
    name: str, spec: ParameterSpec, *, fixed: bool, in_argv: bool, path_check: Check = values.path_check
) -> Parameter:
    """Compile one parameter. Raises ValueError with a sentence when the entry does not make sense.

    path_check: of which systems paths may be.
    """
    _refuse_misplaced_words(name, spec)
    check = path_check if spec.type == "path" else _check(spec, fixed)
    given: dict[str, Any] = {"default": spec.default, "example": spec.example}
    for word, value in given.items():
        try:
            given[word] = None if value is None else check(value, True)
        except Unfit as unfit:
            raise ValueError(f"the {word} of parameter {name} {unfit.message}") from None
    return Parameter(
        name=name,
        type=spec.type,
        description=spec.description,
        required=spec.required,
        default=given["default"],
        aliases=tuple(spec.aliases),
        enum=tuple(spec.enum or ()),
        pattern=spec.pattern,
        minimum=spec.min,
        maximum=spec.max,
        sensitive=spec.sensitive,
        fixed=fixed,
        in_argv=in_argv,
        normalise=check,
        example=given["example"],
        port_in=spec.port_in,
    )


_WORDS_OF = {
    "enum": {"string"},
    "synonyms": {"string"},
    "pattern": {"string", "list", "mapping"},
    "pattern_says": {"string", "list", "mapping"},
    "min": {"integer", "number", "duration", "list"},
    "max": {"integer", "number", "duration", "list"},
    "min_length": {"string", "list"},
    "max_length": {"string", "list", "mapping", "json"},
    "items": {"list", "mapping"},
    "keys": {"mapping"},
    "keys_say": {"mapping"},
}


def _refuse_misplaced_words(name: str, spec: ParameterSpec) -> None:
    for word, types in _WORDS_OF.items():
        if getattr(spec, word) not in (None, {}) and spec.type not in types:
            raise ValueError(f"parameter {name} is of type {spec.type}, which has no {word}")
    for word, kind in (("wrap_single", "list"), ("relative", "url"), ("digits", "string"), ("port_in", "host")):
        if word in spec.model_fields_set and spec.type != kind:
            raise ValueError(f"parameter {name} is of type {spec.type}, which has no {word}")
    if spec.required and spec.default is not None:
        raise ValueError(f"parameter {name} is required and has a default; one of the two is wrong")
    if spec.min is not None and spec.max is not None and spec.min > spec.max:
        raise ValueError(f"parameter {name} has a min above its max")
    if (spec.min_length or 0) > (spec.max_length or _LONGEST_BODY):
        raise ValueError(f"parameter {name} has a min_length above its max_length")
    if spec.enum is not None and (not spec.enum or len(set(spec.enum)) != len(spec.enum) or spec.pattern):
        raise ValueError(f"parameter {name} needs an enum of different words, and no pattern beside it")
    for word, meant in spec.synonyms.items():
        if meant not in (spec.enum or ()) or word in (spec.enum or ()):
            raise ValueError(f"parameter {name} has a synonym {word} that does not lead to a word of its enum")
    for pattern in (spec.pattern, spec.keys):
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"parameter {name} has a pattern that is no regular expression: {error}") from None
    if bool(spec.pattern) != bool(spec.pattern_says) or bool(spec.keys) != bool(spec.keys_say):
        raise ValueError(f"parameter {name} needs a pattern_says beside its pattern, to tell people what to write")


def _check(spec: ParameterSpec, fixed: bool) -> Check:
    kind = spec.type
    if kind == "string" and spec.enum:
        return values.enum_check(spec.enum, spec.synonyms, fixed=fixed)
    if kind == "string":
        return _text(spec, min_length=spec.min_length or 0, max_length=spec.max_length or _LONGEST_ARGUMENT)
    if kind in ("integer", "number"):
        return values.number_check(whole=kind == "integer", minimum=spec.min, maximum=spec.max)
    if kind == "duration":
        return values.duration_check(minimum=spec.min, maximum=spec.max)
    if kind == "list":
        return containers.list_check(
            _items(spec),
            min_length=spec.min_length or 0,
            max_length=spec.max_length or _LONGEST_LIST,
            wrap_single=spec.wrap_single,
        )
    if kind == "mapping":
        keys = re.compile(spec.keys).fullmatch if spec.keys else None
        return containers.mapping_check(
            _items(spec), keys, spec.keys_say or "", max_length=spec.max_length or _LONGEST_LIST
        )
    if kind == "json":
        return containers.json_check(spec.max_length or _LONGEST_BODY)
    return {
        "boolean": values.boolean_check,
        "host": values.host_check,
        "url": values.relative_url_check if spec.relative else values.url_check,
        "auth": containers.auth_check,
        "playbook": values.playbook_check,
        "expectations": expectations.expectations_check,
    }[kind]


def _items(spec: ParameterSpec) -> Check:
    if spec.items == "integer":
        return values.number_check(whole=True, minimum=spec.min, maximum=spec.max)
    if spec.items == "json":
        return containers.json_check(_LONGEST_BODY)
    if spec.items == "scalar":
        return containers.scalar_or_list_check if spec.type == "mapping" else containers.scalar_check
    return _text(spec, min_length=0, max_length=_LONGEST_ARGUMENT)


def _text(spec: ParameterSpec, *, min_length: int, max_length: int) -> Check:
    return values.text_check(
        pattern=spec.pattern,
        pattern_says=spec.pattern_says,
        min_length=min_length,
        max_length=max_length,
        digits=spec.digits,
    )
