"""The page docs/reference/tools.md, written from the catalog: `python -m executions.tools.reference > that file`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable

from executions.tools.loading import Catalog, load_catalog
from executions.tools.parameters import Parameter
from executions.tools.tool import Behaviour, Seconds, Tool

_INTRODUCTION = """\
# Tools

Every tool that a step can name. This page is written from the catalog, `executions/tools/catalog/`, by
`python -m executions.tools.reference`; a test compares the two. How to add one: [add a tool](../how-to/add-a-tool.md).

- **Class**: read, modify or deploy; it decides locks, permissions, time limits and approval. Where it depends on the
  action, the table of actions says so, and the action cannot be a template: what was approved is what is done.
- **Idempotent**: doing it a second time leaves the target as the first time did. Only then is a step that was in flight
  when its worker died run again by itself. A step may say otherwise for itself.
- **Check mode**: whether a plan with `check: true` can ask it what it would change
  ([check first](../how-to/check-first.md)); what only reads is then run as it is.
- **Target**: whether a step must name the machines to run on. Tools without one run in the engine or send a request
  from the worker.
- **Values** are arguments of their own, or travel on standard input; no shell reads them. Only `shell` takes a command
  line. Where the table says "can be a secret", a secret reference can stand. Nowhere else: the value would be on a
  command line, which every user of the target can see.
- Inputs that a tool does not know, and inputs that mean nothing for the action, are refused, as is anything of the
  wrong type. A whole number counts as the text of its digits (`argv: [sleep, 5]`), but not as a `mode`: 420 may mean
  0644. Other numbers, true and false are no text: write them in quotes. `null` counts as absent.
- A file that is replaced is replaced in one move, following symbolic links, and keeps owner and mode; access control
  lists and extended attributes are not kept. If the command is killed with SIGKILL in between, the old content stays
  and a file named `.opsconductor.` with six letters may be left beside it.
- **Windows**: whether it can be used on machines with connection `powershell`. There it is a PowerShell program, not
  argv; paths are written as on Windows, and `mode` means nothing.
- What runs on other targets needs a POSIX sh and the usual programs, of GNU or busybox. `tcp_port_check` and the action
  tcp of `network_tools` use bash's `/dev/tcp` where there is bash, else python3, else nc.
"""


def render_reference(catalog: Catalog) -> str:
    """The page as Markdown."""
    parts = [_INTRODUCTION, _overview(catalog)]
    parts += [_tool(tool) for tool in catalog]
    return "\n".join(parts)


def _overview(catalog: Catalog) -> str:
    rows = [
        (f"[`{tool.name}`](#{tool.name.lower()})", tool.summary, _class_of(tool), "yes" if tool.needs_target else "no")
        for tool in catalog
    ]
    return _table(("Tool", "Does", "Class", "Target"), rows)


def _class_of(tool: Tool) -> str:
    classes = {behaviour.action_class for behaviour in tool.behaviours.values()}
    return " or ".join(sorted(classes, key=("read", "modify", "deploy").index))


def _tool(tool: Tool) -> str:
    lines = [f"## {tool.name}", "", tool.summary, ""]
    if tool.also_known_as:
        lines += [f"Also known as {', '.join(f'`{name}`' for name in tool.also_known_as)}.", ""]
    if tool.parameters:
        rows = [_parameter(tool, parameter) for parameter in tool.parameters.values()]
        lines.append(_table(("Input", "Type", "Needed", "Meaning"), rows))
    if tool.exactly_one_of:
        lines += [f"Exactly one of {' and '.join(f'`{name}`' for name in tool.exactly_one_of)} is needed.", ""]
    if tool.at_most_one_of:
        lines += [f"Not together: {' and '.join(f'`{name}`' for name in tool.at_most_one_of)}.", ""]
    for name, sentence in tool.instead.items():
        lines += [f"Not `{name}`: {sentence}", ""]
    lines.append(_behaviours(tool))
    return "\n".join(lines)


def _parameter(tool: Tool, parameter: Parameter) -> tuple[str, ...]:
    needed = "yes" if parameter.required else "no"
    if parameter.default is not None:
        needed = f"no, `{json.dumps(parameter.default)}`"
    meaning = parameter.description
    if parameter.enum:
        meaning += f" One of {', '.join(f'`{word}`' for word in parameter.enum)}."
    if parameter.type in ("integer", "number", "duration") and parameter.minimum is not None:
        meaning += f" From {parameter.minimum} to {parameter.maximum}."
    if parameter.aliases:
        meaning += f" Also {', '.join(f'`{alias}`' for alias in parameter.aliases)}."
    if parameter.can_be_secret and tool.connector != "inventory":
        meaning += " Can be a secret."
    if parameter.sensitive:
        meaning += " Never shown."
    return f"`{parameter.name}`", parameter.type, needed, meaning


def _behaviours(tool: Tool) -> str:
    several = tool.by is not None
    head = (f"`{tool.by}`", "Inputs") if several else ()
    rows = []
    for name, behaviour in tool.behaviours.items():
        facts: tuple[str, ...] = (
            behaviour.action_class,
            _yes(behaviour.idempotent),
            _yes(behaviour.irreversible),
            _yes(behaviour.production_safe),
            "reads" if behaviour.action_class == "read" else _yes(behaviour.can_be_checked),
            _seconds(behaviour.estimated),
            _seconds(behaviour.default_timeout),
        )
        if tool.connector == "command":
            facts += (_yes(behaviour.windows is not None),)
        rows.append((f"`{name}`", _inputs(tool, behaviour), *facts) if several else facts)
    columns = ("Class", "Idempotent", "Irreversible", "Production-safe", "Check mode", "Usually", "Time limit")
    return _table((*head, *columns, *(("Windows",) if tool.connector == "command" else ())), rows)


def _inputs(tool: Tool, behaviour: Behaviour) -> str:
    names = [name for name in tool.parameters if name in behaviour.accepted and name != tool.by]
    return ", ".join(f"**`{name}`**" if name in behaviour.required else f"`{name}`" for name in names) or "none"


def _seconds(seconds: Seconds) -> str:
    if seconds.parameter is None:
        return f"{seconds.base:g} s"
    return f"`{seconds.parameter}`" + (f" + {seconds.base:g} s" if seconds.base else "")


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render_reference(load_catalog()))
