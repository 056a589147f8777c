"""Command lines as lists of templates. A value is always one whole argument, or part of one; never shell text.

`text`            itself
`{name}`          the value as one argument; the argument is left out when the value is absent
`--unit={name}`   the value inside one argument; left out when absent
`{name*}`         a list: every entry an argument of its own
[..., `{name}`]   a group that is left out as a whole when one of its values is absent
{if: name, then: ...}   arguments that stand when the boolean `name` is true
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from executions.tools.parameters import Parameter
from executions.tools.schema import Argument

Piece = Callable[[Mapping[str, Any]], Sequence[str]]
Render = Callable[[Mapping[str, Any]], list[str]]

_HOLE = re.compile(r"\{([A-Za-z][A-Za-z0-9_.-]*)(\*?)\}")
_DASHES = ("-", "-x", "--x", "--x=1", "+x")


def names_in(arguments: Iterable[Argument]) -> set[str]:
    """Every parameter that the templates speak of."""
    found: set[str] = set()
    for argument in arguments:
        if isinstance(argument, dict):
            found |= {str(argument.get("if", ""))} | names_in(_then(argument))
        elif isinstance(argument, list):
            found |= names_in(argument)
        else:
            found |= {match[1] for match in _HOLE.finditer(argument)}
    return found


def faults_of(arguments: Iterable[Argument]) -> list[str]:
    """Sentences about templates that cannot be understood."""
    faults = []
    for argument in arguments:
        if isinstance(argument, dict):
            if argument.keys() != {"if", "then"} or not isinstance(argument["if"], str):
                faults.append("an argument that is a mapping must have exactly the entries if and then")
            faults += faults_of(_then(argument))
        elif isinstance(argument, list):
            faults += faults_of(argument)
        elif re.search(r"[{}]", _HOLE.sub("", argument)):
            faults.append(f"the argument {argument!r} has a brace that belongs to no parameter")
        elif any(match[2] and match[0] != argument for match in _HOLE.finditer(argument)):
            faults.append(f"the argument {argument!r} must be the list alone")
    return faults


def unguarded(arguments: Sequence[Argument], parameters: Mapping[str, Parameter]) -> list[str]:
    """Parameters whose value a program could take for an option: a leading dash is possible and no `--` is before it.

    The first argument is the program itself: a tool that lets people choose the program guards nothing.
    """
    found = []
    flat = list(_flatten(arguments))
    if not flat or _HOLE.fullmatch(flat[0]):
        return []
    for argument in flat:
        if argument == "--":
            break
        hole = _HOLE.match(argument)
        if hole and hole[1] in parameters and _may_begin_with_dash(parameters[hole[1]]):
            found.append(hole[1])
    return found


def _may_begin_with_dash(parameter: Parameter) -> bool:
    if parameter.enum or parameter.type in ("path", "host", "url", "boolean"):
        return False
    if parameter.type in ("integer", "number", "duration"):
        return parameter.minimum is None or parameter.minimum < 0
    return parameter.pattern is None or any(re.fullmatch(parameter.pattern, dash) for dash in _DASHES)


def _flatten(arguments: Iterable[Argument]) -> Iterable[str]:
    for argument in arguments:
        if isinstance(argument, dict):
            yield from _flatten(_then(argument))
        elif isinstance(argument, list):
            yield from argument
        else:
            yield argument


def _then(argument: Mapping[str, Any]) -> list[str]:
    then = argument.get("then", [])
    return [then] if isinstance(then, str) else list(then)


def compile_arguments(arguments: Iterable[Argument], *, positional: bool) -> Render:
    """Compile templates to a function from inputs to arguments.

    positional: an absent value leaves the empty text in its place, so that a program can count on `$3`.
    """
    pieces: list[Piece | str] = []
    for argument in arguments:
        pieces.append(_compile(argument, positional))

    def render(inputs: Mapping[str, Any]) -> list[str]:
        rendered: list[str] = []
        for piece in pieces:
            if type(piece) is str:
                rendered.append(piece)
            else:
                rendered += piece(inputs)  # type: ignore[operator]
        return rendered

    return render


def _compile(argument: Argument, positional: bool) -> Piece | str:
    if isinstance(argument, dict):
        return _compile_flag(str(argument["if"]), compile_arguments(_then(argument), positional=positional))
    if isinstance(argument, list):
        needed = names_in(argument)
        group = compile_arguments(argument, positional=False)
        return lambda inputs: group(inputs) if all(name in inputs for name in needed) else ()
    holes = list(_HOLE.finditer(argument))
    if not holes:
        return argument
    if holes[0][2]:
        listed = holes[0][1]
        return lambda inputs: [as_text(entry) for entry in inputs.get(listed, ())]
    if len(holes) == 1:
        return _compile_single(holes[0][1], argument[: holes[0].start()], argument[holes[0].end() :], positional)
    return _compile_several(argument, positional)


def _compile_flag(name: str, then: Render) -> Piece:
    return lambda inputs: then(inputs) if inputs.get(name) is True else ()


def _compile_single(name: str, before: str, after: str, positional: bool) -> Piece:
    absent = ("",) if positional else ()

    def piece(inputs: Mapping[str, Any]) -> Sequence[str]:
        if name not in inputs:
            return absent
        return (f"{before}{as_text(inputs[name])}{after}",)

    return piece


def _compile_several(argument: str, positional: bool) -> Piece:
    names = names_in([argument])
    absent = ("",) if positional else ()

    def piece(inputs: Mapping[str, Any]) -> Sequence[str]:
        if any(name not in inputs for name in names):
            return absent
        return (_HOLE.sub(lambda hole: as_text(inputs[hole[1]]), argument),)

    return piece


def as_text(value: Any) -> str:
    """A value as the text of an argument: 5.0 as 5, true as true."""
    if type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is float and value.is_integer():
        return str(int(value))
    return str(value)
