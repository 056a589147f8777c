"""From rendered inputs to what a connector is given."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from executions.connectors.base import HttpRequest
from executions.tools import InvalidInput, Tool

Find = Callable[[str], Tool]
SECRET = {"type": "secret", "path": "db/orders/backup"}


@pytest.mark.parametrize(
    ("name", "inputs", "argv"),
    [
        ("noop", {}, ("noop",)),
        ("wait", {"seconds": 2.5}, ("wait", "2.5")),
        ("wait", {"seconds": 30}, ("wait", "30")),
        ("command", {"argv": ["df", "-h", ""]}, ("df", "-h", "")),
        ("shell", {"command": "df -h | head"}, ("/bin/sh", "-c", "df -h | head")),
        (
            "systemctl",
            {"action": "restart", "service": "nginx"},
            ("systemctl", "--no-pager", "--no-ask-password", "restart", "--", "nginx"),
        ),
        (
            "systemctl",
            {"action": "status", "service": "nginx"},
            ("systemctl", "--no-pager", "--full", "status", "--", "nginx"),
        ),
        ("systemctl", {"action": "daemon-reload"}, ("systemctl", "--no-pager", "--no-ask-password", "daemon-reload")),
        ("journalctl", {}, ("journalctl", "--no-pager", "--lines=200")),
        (
            "journalctl",
            {"unit": "nginx", "n": "50", "since": "1 hour ago", "priority": "error"},
            ("journalctl", "--no-pager", "--lines=50", "--unit=nginx", "--since=1 hour ago", "--priority=err"),
        ),
        ("docker", {"action": "list"}, ("docker", "ps", "--all", "--no-trunc")),
        ("docker", {"action": "stats"}, ("docker", "stats", "--no-stream", "--no-trunc", "--")),
        ("docker", {"action": "restart", "name": "web"}, ("docker", "restart", "--", "web")),
        ("docker", {"action": "inspect", "container": "web"}, ("docker", "inspect", "--", "web")),
        (
            "docker",
            {"action": "logs", "container": "web", "since": "10m"},
            ("docker", "logs", "--timestamps", "--tail=200", "--since=10m", "--", "web"),
        ),
        ("docker", {"action": "remove", "container": "web"}, ("docker", "rm", "--", "web")),
        ("docker", {"action": "rm", "container": "web", "force": True}, ("docker", "rm", "--force", "--", "web")),
    ],
)
def test_the_command_line_is_this(tool: Find, name: str, inputs: dict[str, Any], argv: tuple[str, ...]) -> None:
    assert tool(name).prepare(inputs).argv == argv


@pytest.mark.parametrize("action", ["start", "stop", "restart", "pause", "unpause"])
def test_docker_changes_one_container_by_name(tool: Find, action: str) -> None:
    assert tool("docker").prepare({"action": action, "container": "web"}).argv == ("docker", action, "--", "web")


def test_a_program_gets_its_values_as_positional_parameters(tool: Find) -> None:
    argv = tool("file_manager").prepare({"action": "chmod", "path": "/srv/a", "mode": "0640"}).argv
    assert argv[:2] == ("/bin/sh", "-c")
    assert argv[3:] == ("file_manager", "chmod", "/srv/a", "", "0640", "false", "")


def test_the_text_of_a_program_does_not_depend_on_the_inputs(tool: Find) -> None:
    texts = {tool("file_manager").prepare({"action": "read", "path": path}).argv[2] for path in ("/a", "/$(b)", "/'c")}
    assert len(texts) == 1


def test_content_travels_on_standard_input(tool: Find) -> None:
    invocation = tool("copy").prepare({"path": "/srv/a", "content": "grüß dich\n"})
    assert invocation.stdin == "grüß dich\n".encode()
    assert not any("grüß" in argument for argument in invocation.argv)


def test_an_empty_file_is_empty_standard_input_and_no_content_is_none(tool: Find) -> None:
    assert tool("copy").prepare({"path": "/srv/a", "content": ""}).stdin == b""
    assert tool("copy").prepare({"path": "/srv/a", "source": "/srv/b"}).stdin is None


def test_environment_and_directory_are_passed_on(tool: Find) -> None:
    invocation = tool("shell").prepare({"command": 'echo "$A"', "env": {"A": "b c"}, "cwd": "/srv", "stdin": "x"})
    assert invocation.environment == {"A": "b c"}
    assert invocation.working_directory == "/srv"
    assert invocation.stdin == b"x"


def test_limits_and_the_step_s_time_are_passed_on(tool: Find) -> None:
    invocation = tool("ps").prepare({}, timeout_seconds=12.5)
    assert invocation.timeout_seconds == 12.5
    assert invocation.max_output_bytes == tool("ps").max_output_bytes
    assert invocation.idempotent is True
    assert tool("shell").prepare({"command": "true"}).idempotent is False


def test_an_inventory_query_is_json_on_standard_input(tool: Find) -> None:
    invocation = tool("asset-query").prepare({"filters": {"environment": ["test", "development"]}, "fields": ["name"]})
    assert invocation.stdin is not None
    assert json.loads(invocation.stdin) == {
        "filters": {"environment": ["test", "development"]},
        "fields": ["name"],
    }


@pytest.mark.parametrize(
    ("name", "inputs", "request_"),
    [
        ("http", {"url": "https://example.org/"}, HttpRequest("GET", "https://example.org/")),
        (
            "http",
            {"url": "https://example.org/", "method": "put", "body": "grüß", "headers": {"A": "b"}},
            HttpRequest("PUT", "https://example.org/", {"A": "b"}, "grüß".encode()),
        ),
        (
            "http",
            {"url": "https://example.org/", "method": "POST", "body": {"a": [1, None]}, "expect_status": [201, 202]},
            HttpRequest(
                "POST", "https://example.org/", {"Content-Type": "application/json"}, b'{"a": [1, null]}', (201, 202)
            ),
        ),
        (
            "api-request",
            {"url": "https://example.org/", "verb": "PATCH", "json": "a", "headers": {"content-type": "application/x"}},
            HttpRequest("PATCH", "https://example.org/", {"content-type": "application/x"}, b'"a"'),
        ),
        ("http_check", {"url": "https://example.org/"}, HttpRequest("GET", "https://example.org/", {}, None, (200,))),
        (
            "http_check",
            {"url": "https://example.org/", "expected_status": 401},
            HttpRequest("GET", "https://example.org/", {}, None, (401,)),
        ),
    ],
)
def test_the_request_is_this(tool: Find, name: str, inputs: dict[str, Any], request_: HttpRequest) -> None:
    invocation = tool(name).prepare(inputs)
    assert invocation.http == request_
    assert invocation.argv == ()


def test_a_body_of_text_that_is_not_ascii_reaches_json_whole(tool: Find) -> None:
    request = tool("http").prepare({"url": "https://example.org/", "method": "POST", "body": {"a": "é\ud800"}}).http
    assert request is not None
    assert request.body is not None
    assert json.loads(request.body) == {"a": "é\ud800"}


@pytest.mark.parametrize(
    ("name", "inputs", "path"),
    [
        ("tcp_port_check", {"host": "web01", "port": "eighty"}, "port"),
        ("tcp_port_check", {"host": "{{ hostname }}", "port": 80}, "host"),
        ("copy", {"path": "{{ steps.a.stdout }}", "content": "x"}, "path"),
        ("copy", {"path": "/a", "content": SECRET}, "content"),
        ("command", {"argv": ["mysql", SECRET]}, "argv[1]"),
        ("command", {"argv": "{{ list }}"}, "argv"),
        ("http", {"url": "https://{{ hostname }}/"}, "url"),
        ("http", {"url": "https://example.org/", "headers": {"Authorization": SECRET}}, "headers.Authorization"),
        ("http", {"url": "https://example.org/", "body": {"a": [SECRET]}}, "body.a[0]"),
        ("systemctl", {"action": "status"}, "service"),
        ("noop", {"x": "y"}, "x"),
    ],
)
def test_inputs_that_do_not_fit_once_rendered_are_refused(
    tool: Find, name: str, inputs: dict[str, Any], path: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        tool(name).prepare(inputs)
    assert [problem.path for problem in refused.value.problems] == [path]
    assert name in str(refused.value)


def test_text_that_looks_like_a_template_is_data_once_rendered(tool: Find) -> None:
    inputs = {"path": "/srv/{{ a }}", "content": "{{ .Values.x }}"}
    invocation = tool("copy").prepare(inputs)
    assert invocation.stdin == b"{{ .Values.x }}"
    assert "/srv/{{ a }}" in invocation.argv


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("command", {"argv": ["mysql", "-psw0rdfish"]}),
        ("command", {"argv": ["echo", "sw0rdfish"]}),
        ("shell", {"command": "echo sw0rdfish"}),
        ("file_manager", {"action": "read", "path": "/srv/sw0rdfish"}),
        ("ps", {"pattern": "sw0rdfish"}),
    ],
)
def test_a_secret_on_a_command_line_is_refused_without_repeating_it(
    tool: Find, name: str, inputs: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput) as refused:
        tool(name).prepare(inputs, secret_values=("sw0rdfish",))
    assert "command line" in str(refused.value)
    assert "sw0rdfish" not in f"{refused.value} {refused.value.problems}"


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("command", {"argv": ["psql"], "environment": {"PGPASSWORD": "sw0rdfish"}}),
        ("shell", {"command": "cat", "stdin": "sw0rdfish"}),
        ("config_manager", {"action": "set", "path": "/a", "key": "b", "value": "sw0rdfish"}),
        ("copy", {"path": "/a", "content": "sw0rdfish"}),
        ("http", {"url": "https://example.org/", "headers": {"Authorization": "sw0rdfish"}}),
    ],
)
def test_a_secret_off_the_command_line_is_passed_on_and_named_for_masking(
    tool: Find, name: str, inputs: dict[str, Any]
) -> None:
    invocation = tool(name).prepare(inputs, secret_values=("sw0rdfish",))
    assert invocation.secret_values == ("sw0rdfish",)
    assert "sw0rdfish" not in repr(invocation)
    assert not any("sw0rdfish" in argument for argument in invocation.argv)


def test_a_very_short_secret_is_not_looked_for_inside_other_words(tool: Find) -> None:
    inputs = {"argv": ["ls", "-la"], "environment": {"PIN": "a"}}
    assert tool("command").prepare(inputs, secret_values=("a", "")).argv == ("ls", "-la")
    with pytest.raises(InvalidInput):
        tool("command").prepare({"argv": ["echo", "a"]}, secret_values=("a",))
