"""The catalog that comes with OpsConductor: its shape, and what it says about every tool."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import yaml

from executions.tools import Catalog, Tool, get_catalog
from executions.tools.files import CATALOG_DIRECTORY, PROGRAMS_DIRECTORY
from executions.tools.schema import ToolSpec

Find = Callable[[str], Tool]
EXPECTED = {
    "Invoke-Command", "ansible-playbook", "api-request", "asset-check", "asset-host-key", "asset-query",
    "asset-service-query", "command", "config_manager", "copy", "dns_lookup", "docker", "file_manager", "http",
    "http_check", "info_display", "journalctl", "network_tools", "noop", "powershell", "ps", "shell", "systemctl",
    "tcp_port_check", "wait",
}  # fmt: skip
FILES = sorted(CATALOG_DIRECTORY.glob("*.yaml"))


def test_the_catalog_has_exactly_the_tools_promised(catalog: Catalog) -> None:
    assert set(catalog.names()) == EXPECTED
    assert len(catalog) == len(EXPECTED)


@pytest.mark.parametrize("name", ["PowerShell", "NOOP", "", "rm", "catalog"])
def test_a_tool_that_is_not_there_is_unknown(catalog: Catalog, name: str) -> None:
    assert catalog.get(name) is None
    assert name not in catalog


def test_another_spelling_leads_to_the_tool_itself(catalog: Catalog) -> None:
    assert catalog.get("asset_query") is catalog.get("asset-query")
    assert "asset_query" in catalog
    assert "asset_query" not in catalog.names()


def test_the_catalog_is_read_once_per_process() -> None:
    assert get_catalog() is get_catalog()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_has_the_shape_and_says_what_its_parameters_mean(path: object) -> None:
    spec = ToolSpec.model_validate(yaml.safe_load(path.read_text()))  # type: ignore[attr-defined]
    assert spec.summary.endswith(".")
    assert all(parameter.description.endswith(".") for parameter in spec.parameters.values())


def test_no_program_is_without_a_tool() -> None:
    used = set()
    for path in FILES:
        document = yaml.safe_load(path.read_text())
        for entries in (document, document.get("check", {}), document.get("windows", {})):
            program = entries.get("program", []) if isinstance(entries, dict) else []
            used |= {program} if isinstance(program, str) else set(program)
    assert used == {path.name for path in PROGRAMS_DIRECTORY.iterdir()}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_tool_has_a_time_limit_above_its_usual_time(catalog: Catalog, path: object) -> None:
    tool = catalog.get(path.stem)  # type: ignore[attr-defined]
    assert tool is not None
    for behaviour in tool.behaviours.values():
        assert behaviour.default_timeout.of({}) > behaviour.estimated.of({})


@pytest.mark.parametrize(
    ("name", "connector", "needs_target"),
    [
        ("noop", "none", False),
        ("wait", "none", False),
        ("http", "http", False),
        ("api-request", "http", False),
        ("http_check", "http", False),
        ("asset-query", "inventory", False),
        ("asset-service-query", "inventory", False),
    ],
)
def test_only_these_tools_need_no_target(
    catalog: Catalog, tool: Find, name: str, connector: str, needs_target: bool
) -> None:
    assert (tool(name).connector, tool(name).needs_target) == (connector, needs_target)
    without = {"noop", "wait", "http", "api-request", "http_check", "asset-query", "asset-service-query"}
    assert {one.name for one in catalog if not one.needs_target} == without
    scripts = {"powershell", "Invoke-Command"}
    assert {one.name for one in catalog if one.connector == "powershell"} == scripts
    commands = {one.name for one in catalog if one.connector == "command"}
    assert commands == EXPECTED - without - scripts - {"ansible-playbook", "asset-check", "asset-host-key"}


@pytest.mark.parametrize(
    ("name", "inputs", "action_class", "idempotent", "irreversible"),
    [
        ("noop", {}, "read", True, False),
        ("wait", {"seconds": 1}, "read", True, False),
        ("command", {"argv": ["true"]}, "modify", False, False),
        ("shell", {"command": "true"}, "modify", False, False),
        ("http", {"url": "https://example.org/"}, "read", True, False),
        ("http", {"url": "https://example.org/", "method": "head"}, "read", True, False),
        ("http", {"url": "https://example.org/", "verb": "PUT"}, "modify", True, False),
        ("http", {"url": "https://example.org/", "method": "DELETE"}, "modify", True, False),
        ("http", {"url": "https://example.org/", "method": "POST"}, "modify", False, False),
        ("api-request", {"url": "https://example.org/", "method": "PATCH"}, "modify", False, False),
        ("http", {"url": "https://example.org/", "method": "{{ steps.a.stdout }}"}, "modify", False, False),
        ("systemctl", {"action": "status", "service": "a"}, "read", True, False),
        ("systemctl", {"action": "restart", "service": "a"}, "modify", True, False),
        ("systemctl", {}, "modify", True, False),
        ("file_manager", {"action": "read", "path": "/a"}, "read", True, False),
        ("file_manager", {"action": "append", "path": "/a"}, "modify", False, False),
        ("file_manager", {"operation": "rm", "path": "/a"}, "modify", True, True),
        ("file_manager", {"action": "explode"}, "modify", False, True),
        ("file_manager", {"action": ["read"]}, "modify", False, True),
        ("docker", {"action": "logs", "container": "a"}, "read", True, False),
        ("docker", {"action": "rm", "container": "a"}, "modify", False, True),
        ("config_manager", {"action": "get"}, "read", True, False),
        ("config_manager", {"action": "set"}, "modify", True, False),
        ("network_tools", {"action": "ping"}, "read", True, False),
    ],
)
def test_what_kind_of_change_it_is_follows_the_action(
    tool: Find, name: str, inputs: dict[str, object], action_class: str, idempotent: bool, irreversible: bool
) -> None:
    found = tool(name)
    assert found.action_class_for(inputs) == action_class
    assert found.idempotent_for(inputs) is idempotent
    assert found.irreversible_for(inputs) is irreversible


def test_a_tool_as_a_whole_is_as_grave_as_its_gravest_action(tool: Find) -> None:
    assert tool("docker").action_class == "modify"
    assert tool("docker").irreversible is True
    assert tool("docker").idempotent is False
    assert tool("docker").production_safe is False
    assert tool("journalctl").production_safe is True


def test_waiting_takes_as_long_as_it_was_asked_to(tool: Find) -> None:
    wait = tool("wait")
    checked, _ = wait.check({"seconds": "5m"})
    assert wait.estimated_duration_for(checked) == 300
    assert wait.default_timeout_for(checked) == 330


def test_the_time_limit_of_a_wait_that_is_not_known_yet_is_the_longest(tool: Find) -> None:
    assert tool("wait").default_timeout_for({"seconds": "{{ steps.a.stdout }}"}) == 86_430
