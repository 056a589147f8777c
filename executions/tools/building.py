"""From a catalog file that has the right shape to a tool: what the entries say about each other is checked here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from executions.connectors.registry import tool_connectors
from executions.tools import command_lines, values
from executions.tools.parameters import Parameter, build_parameter
from executions.tools.program_files import joined, misnamed, parts_of
from executions.tools.schema import (
    Argument,
    BehaviourSpec,
    CaseSpec,
    CheckSpec,
    SecondsFromInput,
    ToolSpec,
    WindowsSpec,
)
from executions.tools.tool import TAKES_ALL_INPUTS, Behaviour, CheckMode, Seconds, Tool
from executions.tools.values import Check
from executions.tools.windows import build_form

T = TypeVar("T")
_GRAVITY = ("read", "modify", "deploy")
# What the engine does itself; everything else is some connector's.
OF_THE_ENGINE = ("none", "inventory", "probe")


def build_tool(spec: ToolSpec, programs: Sequence[Path]) -> tuple[Tool | None, list[str]]:
    """Compile `spec`, whose programs are looked for in the folders `programs`, in that order.

    Returns the tool, or None, and sentences about everything that is wrong with it.
    """
    faults: list[str] = []
    parameters = _build_parameters(spec, faults)
    cases: Mapping[str, CaseSpec | None] = spec.by_action.cases if spec.by_action else {spec.name: None}
    faults += _faults_between_entries(spec, parameters)
    behaviours = {}
    for name, case in cases.items():
        try:
            behaviours[name] = _build_behaviour(spec, case, parameters, programs)
        except ValueError as error:
            label = f"case {name}: " if case is not None else ""
            faults += [f"{label}{sentence}" for sentence in error.args]
    if faults:
        return None, faults
    return _assemble(spec, parameters, behaviours), []


def _build_parameters(spec: ToolSpec, faults: list[str]) -> dict[str, Parameter]:
    fixed = spec.by_action.by if spec.by_action else None
    in_argv = set()
    for source in _sources(spec):
        in_argv |= command_lines.names_in([*(source.argv or ()), *(source.arguments or ()), *_check_templates(source)])
    paths = _path_check(spec)
    parameters = {}
    for name, entry in spec.parameters.items():
        try:
            parameters[name] = build_parameter(
                name, entry, fixed=name == fixed, in_argv=name in in_argv, path_check=paths
            )
        except ValueError as error:
            faults.append(str(error))
    names = [*spec.parameters, *(alias for entry in spec.parameters.values() for alias in entry.aliases)]
    faults += [f"{name} is the name of two parameters" for name in sorted({n for n in names if names.count(n) > 1})]
    return parameters


def _path_check(spec: ToolSpec) -> Check:
    if spec.connector == "powershell":
        return values.windows_path_check
    return values.any_path_check if any(source.windows for source in _sources(spec)) else values.path_check


def _sources(spec: ToolSpec) -> list[BehaviourSpec]:
    return [spec, *(spec.by_action.cases.values() if spec.by_action else ())]


def _check_templates(source: BehaviourSpec) -> list[Argument]:
    if not isinstance(source.check, CheckSpec):
        return []
    return [*(source.check.argv or ()), *(source.check.arguments or ())]


def _references(source: BehaviourSpec) -> set[str]:
    names = command_lines.names_in([*(source.argv or ()), *(source.arguments or ())])
    times = (source.default_timeout_seconds, source.estimated_duration)
    names |= {time.parameter for time in times if isinstance(time, SecondsFromInput)}
    if isinstance(source, CaseSpec):
        names |= set(source.accepts)
    if isinstance(source.windows, WindowsSpec):
        names |= set(source.windows.without)
    return names | set(source.requires) | {name for name in (source.stdin, source.script) if name}


def _shared_references(spec: ToolSpec) -> set[str]:
    """Parameters that mean something for every case."""
    names = {name for name in (spec.environment, spec.working_directory) if name}
    if spec.by_action:
        names.add(spec.by_action.by)
    if spec.http:
        named = (
            spec.http.url,
            spec.http.query,
            spec.http.auth,
            spec.http.headers,
            spec.http.expect_status,
            spec.http.expect_json,
            *spec.http.body,
        )
        names |= {name for name in named if name}
        if spec.http.method in spec.parameters:
            names.add(spec.http.method)
    if spec.connector in TAKES_ALL_INPUTS:
        names |= set(spec.parameters)
    return names


def _faults_between_entries(spec: ToolSpec, parameters: Mapping[str, Parameter]) -> list[str]:
    used = _shared_references(spec) | {name for source in _sources(spec) for name in _references(source)}
    used |= set(spec.exactly_one_of) | set(spec.at_most_one_of)
    named = used | {name for source in _sources(spec) for name in command_lines.names_in(_check_templates(source))}
    named |= {entry.port_in for entry in spec.parameters.values() if entry.port_in}
    faults = [f"{name} is used but is not one of the parameters" for name in sorted(named - spec.parameters.keys())]
    faults += [f"the parameter {name} is not used for anything" for name in spec.parameters if name not in used]
    faults += [f"instead speaks of {name}, which is accepted" for name in spec.instead if name in spec.parameters]
    if spec.connector not in OF_THE_ENGINE and spec.connector not in tool_connectors():
        known = ", ".join(sorted({*OF_THE_ENGINE, *tool_connectors()}))
        faults.append(f"there is no connector {spec.connector}; there are: {known}")
    if spec.connector in ("none", "inventory") and spec.needs_target:
        faults.append(f"a tool with the connector {spec.connector} runs in the engine and has no target")
    if spec.connector in ("command", "ansible", "powershell") and not spec.needs_target:
        faults.append("a tool that runs a command needs a target to run it on")
    if spec.connector == "probe" and not spec.needs_target:
        faults.append("a tool that checks a target needs one")
    if spec.upload:
        sent = {spec.upload.path, spec.upload.content, spec.upload.mode} - {None}
        faults += [f"upload names {name}, which is not one of the parameters" for name in sent - parameters.keys()]
    if (spec.connector == "http") != (spec.http is not None):
        faults.append("the entry http belongs to the connector http, and to no other")
    looks = parameters.get(spec.check_input or "")
    if spec.check_input and (looks is None or looks.type != "boolean" or spec.by_action):
        faults.append("check_input must name a boolean parameter, and does not go with by_action")
    faults += [
        f"check_may_change_with names {name}, which is no parameter"
        for name in spec.check_may_change_with
        if name not in parameters
    ]
    if spec.by_action:
        chooser = parameters.get(spec.by_action.by)
        words = set(chooser.enum) if chooser else set()
        if chooser and words != set(spec.by_action.cases):
            odd = ", ".join(sorted(words ^ set(spec.by_action.cases)))
            faults.append(f"the enum of {chooser.name} and the cases of by_action differ in: {odd}")
        if chooser and not chooser.required and chooser.default is None:
            faults.append(f"{chooser.name} chooses the action, so it must be required or have a default")
    return faults


def _build_behaviour(
    spec: ToolSpec, case: CaseSpec | None, parameters: Mapping[str, Parameter], programs: Sequence[Path]
) -> Behaviour:
    """Raises ValueError whose args are sentences."""
    source: BehaviourSpec = case if case is not None else spec
    argv, program, arguments = _command_of(spec, case)
    accepted = _accepted(spec, case, [*(argv or ()), *(arguments or ())]) & parameters.keys()
    stdin = source.stdin if case is None or case.stdin or case.argv or case.arguments else spec.stdin
    script = source.script or spec.script
    accepted |= {name for name in (stdin, script) if name}
    faults = _command_faults(spec, argv, program, arguments, parameters)
    faults += _script_faults(spec, script, parameters)
    check = source.check if source.check is not None else spec.check
    if isinstance(check, CheckSpec):
        said = _command_faults(spec, check.argv, parts_of(check.program), check.arguments, parameters)
        faults += [f"check: {sentence}" for sentence in said]
    for time in (source.default_timeout_seconds, source.estimated_duration):
        if isinstance(time, SecondsFromInput) and time.parameter in parameters:
            entry = parameters[time.parameter]
            if entry.type not in ("integer", "number", "duration") or entry.maximum is None:
                faults.append(f"a time follows {time.parameter}, which must be a number with a max")
    prefix = _prefix(program, programs, spec.name, faults)
    check_mode = _check_mode(check, programs, spec.name, faults)
    if faults:
        raise ValueError(*faults)
    windows = build_form(spec.windows if source.windows is None else source.windows, programs)
    templates: list[Argument] = [*(argv or ()), *(arguments or ())]
    return Behaviour(
        action_class=_first(source.action_class, spec.action_class),
        idempotent=_first(source.idempotent, spec.idempotent),
        irreversible=_first(source.irreversible, spec.irreversible),
        production_safe=_first(source.production_safe, spec.production_safe),
        default_timeout=_seconds(
            source.default_timeout_seconds, spec.default_timeout_seconds, parameters, at_most=True
        ),
        estimated=_seconds(source.estimated_duration, spec.estimated_duration, parameters, at_most=False),
        max_output_bytes=_first(source.max_output_bytes, spec.max_output_bytes),
        accepted=frozenset(accepted),
        required=frozenset({name for name in accepted if parameters[name].required} | set(source.requires)),
        defaults={name: parameters[name].default for name in accepted if parameters[name].default is not None},
        argv_prefix=prefix,
        render=command_lines.compile_arguments(templates, positional=program is not None) if templates else None,
        stdin=stdin,
        check=check_mode,
        script=script,
        windows=windows,
    )


def _check_mode(
    check: CheckSpec | str | None, programs: Sequence[Path], name: str, faults: list[str]
) -> CheckMode | None:
    if check is None or check == "none":
        return None
    if not isinstance(check, CheckSpec):
        return CheckMode()
    program = parts_of(check.program)
    templates: list[Argument] = [*(check.argv or ()), *(check.arguments or ())]
    prefix = _prefix(program, programs, name, faults)
    return CheckMode(prefix, command_lines.compile_arguments(templates, positional=program is not None))


def _first(own: T | None, inherited: T | None) -> T:
    value = own if own is not None else inherited
    assert value is not None  # ToolSpec requires these entries
    return value


def _command_of(
    spec: ToolSpec, case: CaseSpec | None
) -> tuple[list[Argument] | None, list[str] | None, list[str] | None]:
    """argv, program and arguments that hold for a case; its own argv puts aside the tool's program."""
    if case is None:
        return spec.argv, parts_of(spec.program), spec.arguments
    if case.argv is not None:
        return case.argv, parts_of(case.program), case.arguments
    program = parts_of(case.program or spec.program)
    if program is not None:
        return None, program, case.arguments if case.arguments is not None else spec.arguments
    return spec.argv, None, case.arguments


def _accepted(spec: ToolSpec, case: CaseSpec | None, templates: Iterable[Argument]) -> set[str]:
    if case is None:
        return set(spec.parameters)
    return _shared_references(spec) | _references(case) | command_lines.names_in(templates)


def _command_faults(
    spec: ToolSpec,
    argv: list[Argument] | None,
    program: list[str] | None,
    arguments: list[str] | None,
    parameters: Mapping[str, Parameter],
) -> list[str]:
    faults = command_lines.faults_of([*(argv or ()), *(arguments or ())])
    if spec.connector in ("http", "powershell", *TAKES_ALL_INPUTS):
        if argv or program or arguments:
            faults.append(f"a tool with the connector {spec.connector} has no argv and no program")
        return faults
    if (argv is None) == (program is None):
        faults.append("there must be an argv or a program, and not both")
    faults += misnamed(program, "sh")
    if arguments is not None and program is None:
        faults.append("arguments belong to a program; there is none")
    if argv is not None and not argv:
        faults.append("argv is empty")
    if argv and spec.connector == "command" and "/bin/sh" not in argv[:1]:
        faults += [
            f"{name} may begin with a dash and stands before any --, so it could be taken for an option"
            for name in command_lines.unguarded(argv, parameters)
        ]
    return faults


def _script_faults(spec: ToolSpec, script: str | None, parameters: Mapping[str, Parameter]) -> list[str]:
    if (spec.connector == "powershell") != (script is not None):
        return ["the entry script belongs to the connector powershell, and to no other"]
    entry = parameters.get(script or "")
    if entry is not None and (entry.type != "string" or entry.enum):
        return [f"{entry.name} is a script, which must be a string"]
    return []


def _prefix(program: list[str] | None, programs: Sequence[Path], name: str, faults: list[str]) -> tuple[str, ...]:
    """The beginning of a command line that runs a program, whose values follow as $1, $2, ...; empty without one."""
    if program is None or faults:
        return ()
    try:
        return ("/bin/sh", "-c", joined(program, programs), name)
    except (OSError, UnicodeDecodeError) as error:
        faults.append(f"a program cannot be read: {error}")
        return ()


def _seconds(
    own: float | SecondsFromInput | None,
    inherited: float | SecondsFromInput | None,
    parameters: Mapping[str, Parameter],
    *,
    at_most: bool,
) -> Seconds:
    """`at_most`: while the input is not known, assume the longest that is allowed; otherwise its default."""
    entry = own if own is not None else inherited
    assert entry is not None  # ToolSpec requires it
    if not isinstance(entry, SecondsFromInput):
        return Seconds(float(entry))
    parameter = parameters[entry.parameter]
    unknown: Any = parameter.maximum if at_most else parameter.default or 0
    return Seconds(float(entry.plus), entry.parameter, float(unknown or 0))


def _looking(behaviour: Behaviour) -> Behaviour:
    """The same, told to change nothing."""
    return replace(behaviour, action_class="read", idempotent=True, irreversible=False, production_safe=True)


def _assemble(spec: ToolSpec, parameters: Mapping[str, Parameter], behaviours: Mapping[str, Behaviour]) -> Tool:
    every = list(behaviours.values())
    names = {alias: parameters[name] for name, entry in spec.parameters.items() for alias in (name, *entry.aliases)}
    return Tool(
        name=spec.name,
        summary=spec.summary,
        also_known_as=tuple(spec.also_known_as),
        connector=spec.connector,
        needs_target=spec.needs_target,
        action_class=max((one.action_class for one in every), key=_GRAVITY.index),
        idempotent=all(one.idempotent for one in every),
        irreversible=any(one.irreversible for one in every),
        production_safe=all(one.production_safe for one in every),
        default_timeout_seconds=max(one.default_timeout.of({}) for one in every),
        estimated_duration=max(one.estimated.of({}) for one in every),
        max_output_bytes=max(one.max_output_bytes for one in every),
        parameters=parameters,
        by=spec.by_action.by if spec.by_action else None,
        behaviours=behaviours,
        exactly_one_of=tuple(spec.exactly_one_of),
        at_most_one_of=tuple(spec.at_most_one_of),
        check_input=spec.check_input,
        check_may_change_with=tuple(spec.check_may_change_with),
        environment=spec.environment,
        working_directory=spec.working_directory,
        http=spec.http,
        upload=spec.upload,
        instead=spec.instead,
        replaces=spec.replaces or "",
        _ports=tuple((name, entry.port_in) for name, entry in parameters.items() if entry.port_in),
        _names=names,
        _only=None if spec.by_action else every[0],
        _only_looking=None if spec.by_action else _looking(every[0]),
    )
