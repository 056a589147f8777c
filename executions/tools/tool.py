"""A tool of the catalog: what it takes, what kind of change it is, and how its inputs become an invocation."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from executions.connectors.base import HttpRequest, Invocation, Script, Upload
from executions.connectors.http_target import is_path
from executions.tools.command_lines import Render
from executions.tools.http_requests import build_request
from executions.tools.parameters import Parameter
from executions.tools.problems import InputProblem, InvalidInput, Unfit
from executions.tools.schema import ActionClass, HttpSpec, UploadSpec
from executions.tools.windows import WindowsForm, as_expression

# The one input that a shell reads: what templates put there is quoted, so that output is never a command.
SHELL_COMMAND_LINE = ("shell", "command")

# The connectors whose standard input is all inputs of the step as JSON.
TAKES_ALL_INPUTS = frozenset({"inventory", "ansible"})

# A secret shorter than this is looked for as a whole argument only: "a" is in nearly every command line.
_SHORTEST_SEARCHED_SECRET = 4


@dataclass(frozen=True, slots=True)
class Seconds:
    """A time that is fixed, or follows an input: `base` plus the value of `parameter`, `otherwise` while unknown."""

    base: float
    parameter: str | None = None
    otherwise: float = 0.0

    def of(self, inputs: Mapping[str, Any]) -> float:
        if self.parameter is None:
            return self.base
        value = inputs.get(self.parameter)
        return self.base + (float(value) if isinstance(value, int | float) else self.otherwise)


@dataclass(frozen=True, slots=True)
class CheckMode:
    """How to say what would change. Without `render` the connector does it, given the real thing and told to check."""

    argv_prefix: tuple[str, ...] = ()
    render: Render | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What one action of a tool does; a tool without actions has a single one.

    accepted  the parameters that mean something for it        required  those of them that must be given
    """

    action_class: ActionClass
    idempotent: bool
    irreversible: bool
    production_safe: bool
    default_timeout: Seconds
    estimated: Seconds
    max_output_bytes: int
    accepted: frozenset[str]
    required: frozenset[str]
    defaults: Mapping[str, Any]
    argv_prefix: tuple[str, ...] = ()
    render: Render | None = field(default=None, repr=False)
    stdin: str | None = None
    check: CheckMode | None = None
    script: str | None = None
    windows: WindowsForm | None = None

    @property
    def can_be_checked(self) -> bool:
        return self.action_class == "read" or self.check is not None


@dataclass(frozen=True, slots=True)
class Tool:
    """One entry of the catalog. Built by `load_catalog` alone.

    The figures without `_for` are those of the tool as a whole: the gravest action class and irreversibility of its
    actions, idempotent only if all are. The `_for` methods take a step's inputs, normalised or not.
    Times are seconds. `connector`: none (the engine itself), command (argv on the target), http, inventory, ansible, or
    what an added connector calls it. `source`: the file of a site's own tool; `replaces`: the tool in whose place it
    stands.
    """

    name: str
    summary: str
    also_known_as: tuple[str, ...]
    connector: str
    needs_target: bool
    action_class: ActionClass
    idempotent: bool
    irreversible: bool
    production_safe: bool
    default_timeout_seconds: float
    estimated_duration: float
    max_output_bytes: int
    parameters: Mapping[str, Parameter]
    by: str | None
    behaviours: Mapping[str, Behaviour]
    exactly_one_of: tuple[str, ...] = ()
    at_most_one_of: tuple[str, ...] = ()
    check_input: str | None = None
    check_may_change_with: tuple[str, ...] = ()
    environment: str | None = None
    working_directory: str | None = None
    http: HttpSpec | None = None
    upload: UploadSpec | None = None
    instead: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    replaces: str = ""
    _names: Mapping[Any, Parameter] = field(default_factory=dict, repr=False)
    _ports: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    _only: Behaviour | None = field(default=None, repr=False)
    _only_looking: Behaviour | None = field(default=None, repr=False)

    def action_class_for(self, inputs: Mapping[str, Any]) -> ActionClass:
        """read, modify or deploy for these inputs; the gravest of the tool's when the action cannot be told."""
        behaviour = self._behaviour_of(inputs)
        return behaviour.action_class if behaviour else self.action_class

    def class_in_check_mode_for(self, inputs: Mapping[str, Any]) -> ActionClass:
        """The same in check mode: read, but for what the check itself cannot answer for."""
        return self.action_class_for(inputs) if self._check_may_change(inputs) else "read"

    def idempotent_for(self, inputs: Mapping[str, Any]) -> bool:
        """True when doing it a second time leaves the target as the first time did."""
        behaviour = self._behaviour_of(inputs)
        return behaviour.idempotent if behaviour else self.idempotent

    def irreversible_for(self, inputs: Mapping[str, Any]) -> bool:
        """True when nothing brings back what was there before."""
        behaviour = self._behaviour_of(inputs)
        return behaviour.irreversible if behaviour else self.irreversible

    def production_safe_for(self, inputs: Mapping[str, Any]) -> bool:
        """False when the catalog cannot say what it may do at worst, or when that is loss of data."""
        behaviour = self._behaviour_of(inputs)
        return behaviour.production_safe if behaviour else self.production_safe

    def estimated_duration_for(self, inputs: Mapping[str, Any]) -> float:
        """Seconds that it usually takes."""
        behaviour = self._behaviour_of(inputs)
        return behaviour.estimated.of(inputs) if behaviour else self.estimated_duration

    def default_timeout_for(self, inputs: Mapping[str, Any]) -> float:
        """Seconds after which something is wrong with it, where the step and the policy say nothing."""
        behaviour = self._behaviour_of(inputs)
        return behaviour.default_timeout.of(inputs) if behaviour else self.default_timeout_seconds

    def asks_target_for(self, inputs: Mapping[str, Any]) -> bool:
        """True for a request to the step's target: at a path, or with the target's own credential."""
        if self.http is None:
            return False
        given = {name: self._value_of(name, inputs) for name in (self.http.url, self.http.auth) if name}
        auth = given.get(self.http.auth or "")
        return is_path(given[self.http.url]) or (isinstance(auth, Mapping) and auth.get("type") == "asset")

    def uses_credential_for(self, inputs: Mapping[str, Any]) -> bool:
        """True when the target's credential is needed to reach it."""
        if self.connector in ("none", "inventory"):
            return False
        if self.http is None:
            return True
        auth = self._value_of(self.http.auth, inputs) if self.http.auth else None
        says_who = isinstance(auth, Mapping) and auth.get("type") != "asset"
        return self.asks_target_for(inputs) and not says_who

    def _value_of(self, name: str, inputs: Mapping[str, Any]) -> Any:
        return next(
            (inputs[one] for one in (name, *self.parameters[name].aliases) if inputs.get(one) is not None), None
        )

    def has_check_for(self, inputs: Mapping[str, Any]) -> bool:
        """True when it can say what it would do with these inputs without doing it, or does nothing but read."""
        behaviour = self._behaviour_of(inputs)
        return behaviour is not None and behaviour.can_be_checked

    def accepts(self, name: str) -> bool:
        """True when `name` is a parameter or an alias of one, for some action."""
        return name in self._names

    def parameter(self, name: str) -> Parameter | None:
        """The parameter with this name or alias."""
        return self._names.get(name)

    def check(self, inputs: Mapping[str, Any]) -> tuple[dict[str, Any], list[InputProblem]]:
        """Normalise a step's inputs before it runs: names resolved, values in normal form, defaults filled in.

        Texts with `{{ }}` and secret references stay as they are and are checked by `prepare`, except in the
        parameter that chooses the action. All problems are reported; with any, the normalised inputs are incomplete.
        """
        normalised, _, problems = self._normalise(inputs, False)
        return normalised, problems

    def prepare(
        self,
        inputs: Mapping[str, Any],
        *,
        timeout_seconds: float | None = None,
        secret_values: tuple[str, ...] = (),
        check: bool = False,
    ) -> Invocation:
        """Turn rendered inputs, secrets filled in, into what a connector is given.

        check: what says what would change and changes nothing; InvalidInput when the tool has no such thing.
        secret_values: the values of secrets that are known; none of them may stand on a command line.
        For the connectors none and inventory, argv is the tool's name with its values; for inventory and ansible, stdin
        is the inputs as JSON. Raises InvalidInput with all problems.
        """
        given, behaviour, problems = self._normalise(inputs, True)
        if problems or behaviour is None:
            raise InvalidInput(self.name, problems)
        prefix, render = behaviour.argv_prefix, behaviour.render
        if check and behaviour.action_class != "read":
            if behaviour.check is None:
                raise InvalidInput(
                    self.name, [InputProblem("", "cannot be checked", f"{self.name} has no check mode.")]
                )
            if behaviour.check.render is not None:
                prefix, render = behaviour.check.argv_prefix, behaviour.check.render
        arguments = render(given) if render else []
        if secret_values:
            self._refuse_visible_secrets(given, arguments, secret_values)
        request = self._request(given)
        return Invocation(
            argv=(*prefix, *arguments),
            stdin=self._stdin(behaviour, given),
            environment=given.get(self.environment, {}) if self.environment else {},
            working_directory=given.get(self.working_directory) if self.working_directory else None,
            http=request,
            upload=None if check else self._upload(given),
            script=self._script(behaviour, given, check),
            timeout_seconds=timeout_seconds,
            max_output_bytes=behaviour.max_output_bytes,
            check=check or self._only_looks(given),
            idempotent=behaviour.idempotent or check,
            secret_values=secret_values,
        )

    def _upload(self, given: Mapping[str, Any]) -> Upload | None:
        spec = self.upload
        if spec is None or not isinstance(content := given.get(spec.content), str):
            return None
        mode = given.get(spec.mode) if spec.mode else None
        return Upload(str(given[spec.path]), content.encode(), str(mode or ""))

    def _request(self, given: Mapping[str, Any]) -> HttpRequest | None:
        if self.http is None:
            return None
        try:
            return build_request(self.http, given)
        except Unfit as unfit:
            raise InvalidInput(self.name, [InputProblem(unfit.path, unfit.message, unfit.how_to_fix)]) from None

    def _script(self, behaviour: Behaviour, given: Mapping[str, Any], check: bool) -> Script | None:
        """What Windows is given; nothing in check mode, unless it only reads: no program for Windows can be asked."""
        if check and behaviour.action_class != "read":
            return None
        if behaviour.script is not None:
            return Script(given[behaviour.script])
        if behaviour.windows is None:
            return None
        return behaviour.windows.script(given, but=(behaviour.stdin, self.environment, self.working_directory))

    def windows_form(self, inputs: Mapping[str, Any]) -> WindowsForm | None:
        """What it does on Windows with these inputs; None when there is no form of it for Windows."""
        behaviour = self._behaviour_of(inputs)
        return behaviour.windows if behaviour else None

    def quote_for(self, name: str) -> Callable[[str], str] | None:
        """How a text that a template puts into this input is to be quoted, so that it stays data; None: not at all."""
        if (self.name, name) == SHELL_COMMAND_LINE:
            return shlex.quote
        if any(behaviour.script == name for behaviour in self.behaviours.values()):
            return as_expression
        return None

    def _stdin(self, behaviour: Behaviour, given: Mapping[str, Any]) -> bytes | None:
        if self.connector in TAKES_ALL_INPUTS:
            return json.dumps(given, allow_nan=False).encode()
        if behaviour.stdin is None or behaviour.stdin not in given:
            return None
        text: str = given[behaviour.stdin]
        return text.encode()

    def _behaviour_of(self, inputs: Mapping[str, Any]) -> Behaviour | None:
        if self._only is not None:
            return self._only_looking if self._only_reads(inputs) else self._only
        assert self.by is not None
        chooser = self.parameters[self.by]
        value = inputs.get(self.by)
        if value is None:
            value = next((inputs[name] for name in chooser.aliases if inputs.get(name) is not None), chooser.default)
        known = self.behaviours.get(value) if type(value) is str else None
        if known is None and value is not None:
            try:
                return self.behaviours.get(chooser.normalise(value, True))
            except Unfit:
                return None
        return known

    def _only_reads(self, inputs: Mapping[str, Any]) -> bool:
        """Whether the step is told to look only, and that can be relied on."""
        return self._only_looks(inputs) and not self._check_may_change(inputs)

    def _check_may_change(self, inputs: Mapping[str, Any]) -> bool:
        """Whether an input is given with which the check mode may change things all the same."""
        parameters = (self.parameters[name] for name in self.check_may_change_with)
        names = [name for parameter in parameters for name in (parameter.name, *parameter.aliases)]
        return any(inputs.get(name) not in (None, {}, []) for name in names)

    def _only_looks(self, inputs: Mapping[str, Any]) -> bool:
        """Whether the step is told to change nothing; not while that cannot be told, as with a template."""
        if self.check_input is None:
            return False
        parameter = self.parameters[self.check_input]
        values = [inputs[name] for name in (parameter.name, *parameter.aliases) if inputs.get(name) is not None]
        try:
            return len(values) == 1 and parameter.normalise(values[0], False) is True
        except Unfit:
            return False

    def _normalise(
        self, inputs: Mapping[str, Any], final: bool
    ) -> tuple[dict[str, Any], Behaviour | None, list[InputProblem]]:
        given: dict[str, Any] = {}
        problems: list[InputProblem] = []
        faulty: set[str] = set()
        if not isinstance(inputs, Mapping):
            return given, None, [InputProblem("", "must be a mapping", f"Write names with values. {self.takes()}")]
        names = self._names
        for key, value in inputs.items():
            parameter = names.get(key)
            if parameter is None:
                problems.append(self._unknown(key))
            elif value is None:
                continue
            elif parameter.name in given or parameter.name in faulty:
                problems.append(InputProblem(key, f"says {parameter.name} a second time", "Leave one of the two out."))
            else:
                try:
                    given[parameter.name] = parameter.normalise(value, final)
                except Unfit as unfit:
                    faulty.add(parameter.name)
                    problems.append(InputProblem(f"{key}{unfit.path}", unfit.message, unfit.how_to_fix))
        for name, port in self._ports:
            if port not in given and port not in faulty:
                self._take_apart(name, port, given, faulty, problems)
        return self._complete(given, faulty, problems)

    def _take_apart(
        self, name: str, port: str, given: dict[str, Any], faulty: set[str], problems: list[InputProblem]
    ) -> None:
        """Of a host given as HOST:PORT, put the port where it belongs. An address of IPv6 has more than one colon."""
        host, colon, digits = str(given.get(name, "")).partition(":")
        if not (host and colon and digits.isascii() and digits.isdecimal()):
            return
        given[name] = host
        try:
            given[port] = self.parameters[port].normalise(digits, True)
        except Unfit as unfit:
            faulty.add(port)
            problems.append(InputProblem(name, f"has a port that {unfit.message}", unfit.how_to_fix))

    def _complete(
        self, given: dict[str, Any], faulty: set[str], problems: list[InputProblem]
    ) -> tuple[dict[str, Any], Behaviour | None, list[InputProblem]]:
        behaviour = self._only_looking if self._only_reads(given) else self._only
        if behaviour is None:
            assert self.by is not None
            chosen = given.get(self.by, self.parameters[self.by].default)
            if chosen is None:
                if self.by not in faulty:
                    problems.append(self._missing(self.by))
                return given, None, problems
            behaviour = self.behaviours[chosen]
        if not behaviour.accepted.issuperset(given):
            problems += [self._unused(name, given) for name in given if name not in behaviour.accepted]
        if not behaviour.required.issubset(given):
            problems += [
                self._missing(name) for name in sorted(behaviour.required) if name not in given and name not in faulty
            ]
        if self.exactly_one_of or self.at_most_one_of:
            self._check_alternatives(given, faulty, problems)
        for name, value in behaviour.defaults.items():
            if name not in given:
                given[name] = value.copy() if type(value) in (list, dict) else value
        return given, behaviour, problems

    def _check_alternatives(self, given: dict[str, Any], faulty: set[str], problems: list[InputProblem]) -> None:
        for names, least in ((self.exactly_one_of, 1), (self.at_most_one_of, 0)):
            count = sum(name in given or name in faulty for name in names)
            if names and not least <= count <= 1:
                words = " or ".join(names)
                message = f"needs {words}" if count < least else f"cannot have both {words}"
                problems.append(InputProblem("", message, f"Give exactly one of {words}."))

    def _unknown(self, key: object) -> InputProblem:
        hint = self.instead.get(str(key))
        return InputProblem(str(key), f"is not an input of {self.name}", hint or self.takes())

    def _unused(self, name: str, given: Mapping[str, Any]) -> InputProblem:
        action = f"{self.by} {given.get(self.by) or self.parameters[self.by].default}" if self.by else self.name
        accepted = self.behaviours[given.get(self.by) or self.parameters[self.by].default].accepted if self.by else ()
        return InputProblem(
            name, f"means nothing for {action}", f"Leave it out; this takes: {', '.join(sorted(accepted))}."
        )

    def _missing(self, name: str) -> InputProblem:
        parameter = self.parameters[name]
        choices = f" ({', '.join(parameter.enum)})" if parameter.enum else ""
        return InputProblem(name, "is missing", f"Give {name}{choices}: {parameter.description}")

    def ways_for_secrets(self) -> list[str]:
        """The inputs that reach a command without standing on its command line."""
        ways = (self.environment, *(behaviour.stdin for behaviour in self.behaviours.values()))
        return list(dict.fromkeys(name for name in ways if name))

    def takes(self) -> str:
        """A sentence that names every parameter with its other names."""
        if not self.parameters:
            return f"The tool {self.name} takes no inputs."
        words = [
            f"{parameter.name} (or {', '.join(parameter.aliases)})" if parameter.aliases else parameter.name
            for parameter in self.parameters.values()
        ]
        return f"The tool {self.name} takes: {', '.join(words)}."

    def _refuse_visible_secrets(
        self, given: Mapping[str, Any], arguments: list[str], secret_values: tuple[str, ...]
    ) -> None:
        """The arguments of a process can be read by every user of the target."""
        for secret in secret_values:
            long = len(secret) >= _SHORTEST_SEARCHED_SECRET
            if secret and any(secret == argument or (long and secret in argument) for argument in arguments):
                where = sorted(name for name in given if self.parameters[name].in_argv)
                ways = self.ways_for_secrets()
                how = f"Give it through {' or '.join(ways)}." if ways else "Use another tool for it."
                problem = InputProblem(", ".join(where), "would show a secret on a command line", how)
                raise InvalidInput(self.name, [problem])
