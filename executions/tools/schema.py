"""The shape of a catalog file. Unknown words, wrong types and missing entries are faults of the file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

ActionClass = Literal["read", "modify", "deploy"]
ParameterType = Literal[
    "string",
    "integer",
    "number",
    "boolean",
    "list",
    "mapping",
    "path",
    "duration",
    "url",
    "host",
    "json",
    "auth",
    "playbook",
    "expectations",
]
Seconds = Annotated[StrictInt | StrictFloat, Field(ge=0, le=30 * 86_400)]
Scalar = StrictStr | StrictInt | StrictFloat | StrictBool
Name = Annotated[StrictStr, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")]
Sentence = Annotated[StrictStr, Field(min_length=3, max_length=500)]
# An argument: text, a group dropped as a whole when one of its parameters is absent, or a flag.
Argument = StrictStr | list[StrictStr] | dict[StrictStr, StrictStr | list[StrictStr]]


class FileModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SecondsFromInput(FileModel):
    """A time that depends on an input: the value of `parameter` plus `plus` seconds."""

    parameter: Name
    plus: Seconds = 0


class ParameterSpec(FileModel):
    """One parameter. `min`, `max` bound numbers; `min_length`, `max_length` characters, or entries of a list.

    In a mapping `pattern` and `items` are about the values, `keys` is the pattern of the names. `example` is what
    people are shown. `relative`: a url may begin with /, and is then at the step's target. `digits`: false where a
    whole number does not count as its digits, since it may stand for octal ones. `port_in`: the parameter that gets the
    port of a host written as HOST:PORT.
    """

    type: ParameterType
    description: Sentence
    required: StrictBool = False
    default: Scalar | list[Scalar] | dict[str, Scalar] | None = None
    example: Scalar | list[Scalar] | dict[str, Scalar] | None = None
    aliases: list[Name] = []
    enum: list[StrictStr] | None = None
    synonyms: dict[StrictStr, StrictStr] = {}
    pattern: StrictStr | None = None
    pattern_says: StrictStr | None = None
    min: StrictInt | StrictFloat | None = None
    max: StrictInt | StrictFloat | None = None
    min_length: Annotated[StrictInt, Field(ge=0)] | None = None
    max_length: Annotated[StrictInt, Field(ge=1)] | None = None
    items: Literal["string", "integer", "scalar", "json"] | None = None
    keys: StrictStr | None = None
    keys_say: StrictStr | None = None
    wrap_single: StrictBool = False
    relative: StrictBool = False
    digits: StrictBool = True
    port_in: Name | None = None
    sensitive: StrictBool = False


class HttpSpec(FileModel):
    """Which parameters make the request: each entry names a parameter, except `method`, which may be a word."""

    method: StrictStr
    url: Name
    query: Name | None = None
    auth: Name | None = None
    headers: Name | None = None
    body: list[Name] = []
    expect_status: Name | None = None
    expect_json: Name | None = None


class CheckSpec(FileModel):
    """What says on the target what would change, and changes nothing. Its standard input is that of the real thing."""

    argv: list[Argument] | None = None
    program: StrictStr | list[StrictStr] | None = None
    arguments: list[StrictStr] | None = None


class WindowsSpec(FileModel):
    """A PowerShell program that does on Windows what argv does elsewhere. `without`: inputs that mean nothing there."""

    program: StrictStr | list[StrictStr]
    without: list[Name] = []


class UploadSpec(FileModel):
    """The file that the command puts in place, for a connector that can do so itself: which parameter is what. Without
    the content there is nothing to send, and the command does it."""

    path: Name
    content: Name
    mode: Name | None = None


class BehaviourSpec(FileModel):
    """What a tool, or one case of it, does and how. In a case, what is absent is as the tool says.

    check: how it is checked; `connector`: by the connector, when it is told to; `none`: it cannot be. What only reads
    needs none: it is run as it is.
    `script` names the parameter that is a PowerShell script. `windows`: true where argv does on Windows, too, what it
    does elsewhere; false, or absent, where there is no form for Windows.
    """

    action_class: ActionClass | None = None
    idempotent: StrictBool | None = None
    irreversible: StrictBool | None = None
    production_safe: StrictBool | None = None
    default_timeout_seconds: Seconds | SecondsFromInput | None = None
    estimated_duration: Seconds | SecondsFromInput | None = None
    max_output_bytes: Annotated[StrictInt, Field(ge=1, le=50 * 1024 * 1024)] | None = None
    argv: list[Argument] | None = None
    program: StrictStr | list[StrictStr] | None = None
    arguments: list[StrictStr] | None = None
    stdin: Name | None = None
    check: CheckSpec | Literal["connector", "none"] | None = None
    script: Name | None = None
    windows: WindowsSpec | StrictBool | None = None
    requires: list[Name] = []


class CaseSpec(BehaviourSpec):
    """One action of a tool that has several. `accepts` names parameters besides those its arguments use."""

    accepts: list[Name] = []


class CasesSpec(FileModel):
    """`by` is the parameter, an enum, whose value chooses among `cases`."""

    by: Name
    cases: dict[StrictStr, CaseSpec]


class ToolSpec(BehaviourSpec):
    """A whole catalog file. `replaces`: the tool in whose place it stands; only a site's own tool can have it.
    `check_input`: the boolean parameter that turns a step into one that only looks. `check_may_change_with`: parameters
    with which its check mode may change things all the same: then it counts as the real step does.
    """

    name: Name
    replaces: Name | None = None
    also_known_as: list[Name] = []
    summary: Sentence
    connector: Name
    needs_target: StrictBool
    action_class: ActionClass
    idempotent: StrictBool
    irreversible: StrictBool
    production_safe: StrictBool
    default_timeout_seconds: Seconds | SecondsFromInput
    estimated_duration: Seconds | SecondsFromInput
    max_output_bytes: Annotated[StrictInt, Field(ge=1, le=50 * 1024 * 1024)]
    parameters: dict[Name, ParameterSpec] = {}
    exactly_one_of: list[Name] = []
    at_most_one_of: list[Name] = []
    check_input: Name | None = None
    check_may_change_with: list[Name] = []
    environment: Name | None = None
    working_directory: Name | None = None
    http: HttpSpec | None = None
    upload: UploadSpec | None = None
    by_action: CasesSpec | None = None
    instead: dict[Name, Sentence] = {}
