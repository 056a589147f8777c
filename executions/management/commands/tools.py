"""List the tools of the catalog, show one, and check a site's own folder of them."""

from __future__ import annotations

import json
import textwrap
from argparse import SUPPRESS
from pathlib import Path
from typing import Any

import yaml
from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from executions.tools import CatalogError, Tool, get_catalog, load_catalog
from executions.tools.shape import check_mode, example_step, tool_shape
from safety.management.example_help import ExampleCommand

GOOD, FAULTY = 0, 1


class Command(ExampleCommand):
    help = "Lists the tools that plans can use, shows one of them, or checks a folder of a site's own tools."
    example = """\
  manage.py tools
  manage.py tools systemctl
  manage.py tools --json
  manage.py tools --validate var/tools

exit status:
  0  done; with --validate: every file is good
  1  there is no such tool; with --validate: every fault is told, with its file and line
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", nargs="?", help="show this tool with all its inputs")
        parser.add_argument("--json", action="store_true", help="print JSON, as GET /api/v1/tools/ has it")
        parser.add_argument(
            "--validate",
            metavar="FOLDER",
            nargs="?",
            const="",
            default=SUPPRESS,
            help="check a folder of own tools, together with those of OpsConductor (default: TOOLS_DIR)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if "validate" in options:
            raise SystemExit(self._validate(options["validate"], options["json"]))
        catalog = get_catalog()
        if options["name"] is None:
            self._list(list(catalog), options["json"])
            return
        tool = catalog.get(options["name"])
        if tool is None:
            raise CommandError(f"There is no tool {options['name']!r}. `manage.py tools` lists them.")
        if options["json"]:
            self._print_json({**tool_shape(tool), "example": example_step(tool)})
        else:
            self._show(tool)

    # --- a site's folder

    def _validate(self, given: str, as_json: bool) -> int:
        site = Path(given).resolve() if given else settings.TOOLS_DIR
        if site is None:
            raise CommandError("There is no folder to check: give one, or set TOOLS_DIR.")
        try:
            catalog = load_catalog(site=site)
        except CatalogError as error:
            if as_json:
                faults = [
                    {"file": fault.file, "line": fault.line, "where": fault.where, "message": fault.sentence}
                    for fault in error.faults
                ]
                self._print_json({"folder": str(site), "tools": [], "faults": faults})
            for fault in error.faults:
                self.stderr.write(self.style.ERROR(str(fault)))
            count = f"{len(error.faults)} faults" if len(error.faults) > 1 else "1 fault"
            self.stderr.write(f"{count}; with this folder nothing would start.")
            return FAULTY
        own = [tool for tool in catalog if tool.source]
        if as_json:
            self._print_json({"folder": str(site), "tools": [tool.name for tool in own], "faults": []})
            return GOOD
        for tool in own:
            self.stdout.write(f"{tool.name}{_instead(tool)}: good")
        self.stdout.write(f"{len(own)} own {'tool' if len(own) == 1 else 'tools'} in {site}, no fault.")
        return GOOD

    # --- showing

    def _list(self, tools: list[Tool], as_json: bool) -> None:
        if as_json:
            self._print_json({"results": [tool_shape(tool) for tool in tools]})
            return
        for tool in tools:
            self.stdout.write(f"{self.style.MIGRATE_HEADING(tool.name)}  {_facts(tool)}")
            self.stdout.write(textwrap.indent(textwrap.fill(tool.summary, 100), "    "))
            if tool.parameters:
                self.stdout.write(textwrap.fill(_inputs(tool), 104, initial_indent="    ", subsequent_indent="      "))
            if tool.source:
                self.stdout.write(f"    from {tool.source}{_instead(tool)}")
        self.stdout.write("(inputs with * are needed; `manage.py tools NAME` shows one tool in full)")

    def _show(self, tool: Tool) -> None:
        self.stdout.write(f"{self.style.MIGRATE_HEADING(tool.name)}  {_facts(tool)}")
        self.stdout.write(tool.summary)
        if tool.also_known_as:
            self.stdout.write(f"Also known as {', '.join(tool.also_known_as)}.")
        self.stdout.write(f"From {tool.source or 'OpsConductor'}{_instead(tool)}.")
        for parameter in tool_shape(tool)["parameters"]:
            self.stdout.write("")
            self.stdout.write(f"  {parameter['name']} ({parameter['type']}){_need(parameter)}")
            self.stdout.write(textwrap.indent(textwrap.fill(parameter["description"], 96), "      "))
            if parameter["enum"]:
                words = f"one of {', '.join(parameter['enum'])}"
                self.stdout.write(textwrap.indent(textwrap.fill(words, 96), "      "))
            if parameter["aliases"]:
                self.stdout.write(f"      also {', '.join(parameter['aliases'])}")
        self.stdout.write("")
        for name, action in tool_shape(tool)["actions"].items():
            needs = [one for one in action["requires"] if one != tool.by]
            unchecked = "" if action["check_mode"] else ", no check mode"
            self.stdout.write(f"  {tool.by} {name}: {action['action_class']}{unchecked}{_listed(', needs', needs)}")
        self.stdout.write("\nExample of a step:\n")
        text = yaml.safe_dump([example_step(tool)], sort_keys=False, allow_unicode=True, default_flow_style=None)
        self.stdout.write(textwrap.indent(text, "  ").rstrip())

    def _print_json(self, value: object) -> None:
        self.stdout.write(json.dumps(value, indent=1, ensure_ascii=False))


_CHECKS = {"yes": "yes", "no": "no", "some": "for some actions"}


def _facts(tool: Tool) -> str:
    order = ("read", "modify", "deploy")
    classes = sorted({one.action_class for one in tool.behaviours.values()}, key=order.index)
    return f"{' or '.join(classes)}, connector {tool.connector}, check mode {_CHECKS[check_mode(tool)]}"


def _inputs(tool: Tool) -> str:
    needed = {name for name in tool.parameters if all(name in one.required for one in tool.behaviours.values())}
    return ", ".join(f"{name}*" if name in needed else name for name in tool.parameters)


def _listed(before: str, names: list[str]) -> str:
    return f"{before} {', '.join(names)}" if names else ""


def _need(parameter: dict[str, Any]) -> str:
    if parameter["required"]:
        return ", needed"
    if parameter["default"] is not None:
        return f", {json.dumps(parameter['default'])} without it"
    return ""


def _instead(tool: Tool) -> str:
    return f" (in place of {tool.replaces})" if tool.replaces else ""
