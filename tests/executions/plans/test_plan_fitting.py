"""A tool that cannot do what a step asks of it on its targets is refused when the plan is submitted."""

from __future__ import annotations

from typing import Any

import pytest

from tests.executions.plans.compiling import compiled, refused, told
from tests.executions.plans.memory_inventory import LOCALHOST, WEB_1, MemoryInventory, asset

WIN_1 = asset(8, "win-1", "win-1.example.com", "10.0.3.1", connection="powershell", os_type="windows")
WIN_2 = asset(9, "win-2", "win-2.example.com", "10.0.3.2", connection="powershell", os_type="windows")
SWITCH = asset(10, "switch-1", "switch-1.example.com", "10.0.4.1", connection="api")
MACHINES = MemoryInventory([LOCALHOST, WEB_1, WIN_1, WIN_2, SWITCH], groups={})


def plan(tool: str, inputs: dict[str, Any], *targets: str, **fields: Any) -> dict[str, Any]:
    return {"steps": [{"id": "one", "tool": tool, "inputs": inputs, "targets": list(targets), **fields}]}


@pytest.mark.parametrize(
    ("tool", "inputs", "target"),
    [
        ("powershell", {"script": "hostname"}, "web-1"),
        ("powershell", {"script": "hostname"}, "localhost"),
        ("Invoke-Command", {"command": "hostname"}, "switch-1"),
        ("command", {"argv": ["hostname"]}, "switch-1"),
        ("shell", {"command": "hostname"}, "win-1"),
        ("systemctl", {"action": "reload", "service": "nginx"}, "win-1"),
        ("systemctl", {"operation": "daemon_reload"}, "win-1"),
        ("file_manager", {"action": "chmod", "path": "/x", "mode": "0644"}, "win-1"),
        ("info_display", {"kind": "load"}, "win-1"),
        ("network_tools", {"action": "traceroute", "target": "web-1"}, "win-1"),
    ],
)
def test_a_tool_that_nothing_can_use_there_is_refused_with_the_way_out(
    tool: str, inputs: dict[str, Any], target: str
) -> None:
    [problem] = refused(plan(tool, inputs, target), inventory=MACHINES)
    assert (problem.code, problem.path) == ("no_connector", "steps[0].tool")
    assert target in problem.message
    assert problem.how_to_fix


@pytest.mark.parametrize(
    ("tool", "inputs"),
    [
        ("powershell", {"script": "hostname", "working_directory": "C:\\Users\\ops"}),
        ("Invoke-Command", {"script_block": "hostname"}),
        ("command", {"argv": ["hostname"], "working_directory": "D:/Data"}),
        ("ps", {}),
        ("systemctl", {"action": "restart", "service": "W32Time"}),
        ("file_manager", {"action": "read", "path": "\\\\files\\share\\a.txt"}),
        ("copy", {"path": "C:\\a.txt", "content": "x"}),
        ("info_display", {"kind": "os"}),
        ("network_tools", {"action": "tcp", "target": "db", "port": 5432}),
        ("tcp_port_check", {"host": "db", "port": 5432}),
        ("dns_lookup", {"name": "db"}),
        ("journalctl", {"unit": "EventLog", "since": "1 hour ago"}),
        ("docker", {"action": "restart", "container": "web"}),
        ("config_manager", {"action": "set", "path": "C:\\app.ini", "key": "port", "value": "1"}),
    ],
)
def test_what_has_a_form_for_windows_is_accepted_there(tool: str, inputs: dict[str, Any]) -> None:
    [stored] = compiled(plan(tool, inputs, "win-1", "win-2"), inventory=MACHINES).document["steps"]
    assert [target["name"] for target in stored["targets"]] == ["win-1", "win-2"]


@pytest.mark.parametrize(
    ("tool", "inputs", "target", "wrong"),
    [
        ("file_manager", {"action": "read", "path": "/etc/hosts"}, "win-1", "path"),
        ("config_manager", {"action": "get", "path": "/etc/x", "key": "k"}, "win-1", "path"),
        ("file_manager", {"action": "read", "file_path": "C:\\hosts"}, "web-1", "path"),
        ("file_manager", {"action": "copy", "path": "/a", "destination": "C:\\b"}, "localhost", "destination"),
        ("copy", {"path": "C:\\a.txt", "content": "x", "mode": "0644"}, "win-1", "mode"),
        ("command", {"argv": ["x"], "working_directory": "C:\\"}, "localhost", "working_directory"),
        ("command", {"argv": ["x"], "working_directory": "/tmp"}, "win-1", "working_directory"),
    ],
)
def test_a_path_of_the_other_kind_and_what_means_nothing_there_are_refused(
    tool: str, inputs: dict[str, Any], target: str, wrong: str
) -> None:
    assert told(plan(tool, inputs, target), inventory=MACHINES) == [("invalid_input", f"steps[0].inputs.{wrong}")]


@pytest.mark.parametrize(
    "path",
    [
        "C:x",
        "\\x",
        "..\\x",
        "C:\\a\\..\\b",
        "C:\\a.txt:stream",
        "\\\\.\\pipe\\x",
        "\\\\?\\C:\\x",
        "C:\\a\\con.txt",
        "C:\\NUL",
        "C:\\a. ",
        "C:\\a|b",
        "C:\\a*",
        "C:\\" + "x" * 33_000,
    ],
)
def test_a_path_that_leads_elsewhere_than_it_looks_is_refused(path: str) -> None:
    [(code, where)] = told(plan("file_manager", {"action": "read", "path": path}, "win-1"), inventory=MACHINES)
    assert (code, where) == ("invalid_input", "steps[0].inputs.path")


def test_a_rollback_is_looked_at_like_the_step() -> None:
    rollback = {"tool": "shell", "inputs": {"command": "true"}}
    document = plan("command", {"argv": ["x"]}, "win-1", rollback=rollback)
    assert told(document, inventory=MACHINES) == [("no_connector", "steps[0].rollback.tool")]


def test_one_step_on_machines_of_several_kinds_is_told_what_does_not_fit_once() -> None:
    document = plan("shell", {"command": "true"}, "localhost", "win-1", "win-2")
    assert told(document, inventory=MACHINES) == [("no_connector", "steps[0].tool")]


def test_a_template_is_looked_at_when_it_is_known() -> None:
    document = {
        "steps": [
            {"id": "a", "tool": "command", "inputs": {"argv": ["x"]}, "targets": ["win-1"]},
            {
                "id": "b",
                "tool": "file_manager",
                "inputs": {"action": "read", "path": "{{ steps.a.stdout }}"},
                "targets": ["win-1"],
            },
        ]
    }
    assert [step["tool"] for step in compiled(document, inventory=MACHINES).document["steps"]] == [
        "command",
        "file_manager",
    ]
