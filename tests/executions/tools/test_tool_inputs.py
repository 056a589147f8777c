"""Checking the inputs of a step before it runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executions.tools import Catalog, InputProblem, Tool, get_catalog

Find = Callable[[str], Tool]
SECRET = {"type": "secret", "path": "db/orders/backup"}


def faults(found: Tool, inputs: Any) -> list[str]:
    return [problem.path for problem in found.check(inputs)[1]]


def test_names_and_words_are_brought_to_one_form(tool: Find) -> None:
    checked, problems = tool("systemctl").check({"command": "Is_Active", "unit": "nginx"})
    assert problems == []
    assert checked == {"action": "is-active", "service": "nginx"}


def test_defaults_are_filled_in_for_the_action_at_hand_alone(tool: Find) -> None:
    assert tool("docker").check({"action": "logs", "container": "web"})[0]["lines"] == 200
    assert "lines" not in tool("docker").check({"action": "stop", "container": "web"})[0]


def test_checking_what_was_checked_changes_nothing(tool: Find) -> None:
    inputs = {"action": "write", "path": "/tmp/a", "content": "x", "mode": "0600"}
    once, _ = tool("file_manager").check(inputs)
    assert tool("file_manager").check(once) == (once, [])


def test_the_inputs_given_are_not_changed(tool: Find) -> None:
    inputs: dict[str, Any] = {"cmd": ["df", "-h"], "env": {"A": "b"}}
    checked, _ = tool("command").check(inputs)
    checked["argv"].append("x")
    checked["environment"]["B"] = "c"
    assert inputs == {"cmd": ["df", "-h"], "env": {"A": "b"}}


def test_a_default_is_not_shared_between_steps(tool: Find) -> None:
    first, _ = tool("asset-query").check({})
    first["filters"]["environment"] = "production"
    assert tool("asset-query").check({})[0] == {"filters": {}}


def test_null_counts_as_absent(tool: Find) -> None:
    assert tool("journalctl").check({"unit": None, "lines": 5}) == ({"lines": 5}, [])
    assert faults(tool("systemctl"), {"action": "status", "service": None}) == ["service"]


def test_all_problems_are_told_at_once(tool: Find) -> None:
    inputs = {"action": "write", "path": "relative", "mode": 644, "colour": "red", "destination": "/x"}
    assert sorted(faults(tool("file_manager"), inputs)) == ["colour", "content", "destination", "mode", "path"]


def test_an_unknown_input_is_told_what_is_accepted(tool: Find) -> None:
    [problem] = tool("systemctl").check({"action": "status", "service": "a", "colour": "red"})[1]
    assert problem.path == "colour"
    assert "action (or command, operation), service (or unit, name, service_name)" in problem.how_to_fix


def test_a_tool_without_inputs_says_so(tool: Find) -> None:
    [problem] = tool("noop").check({"x": 1})[1]
    assert problem == InputProblem("x", "is not an input of noop", "The tool noop takes no inputs.")


def test_an_input_that_the_step_has_a_better_place_for_is_told_where(tool: Find) -> None:
    [problem] = tool("http_check").check({"url": "https://example.org/", "contains": "ok"})[1]
    assert "success.stdout_matches" in problem.how_to_fix


def test_an_input_that_means_nothing_for_the_action_is_refused(tool: Find) -> None:
    [problem] = tool("file_manager").check({"action": "read", "path": "/a", "content": "x"})[1]
    assert (problem.path, problem.message) == ("content", "means nothing for action read")
    assert problem.how_to_fix == "Leave it out; this takes: action, path."


def test_the_same_input_under_two_names_is_refused(tool: Find) -> None:
    assert faults(tool("systemctl"), {"action": "status", "service": "a", "unit": "b"}) == ["unit"]


def test_a_missing_input_names_the_choices(tool: Find) -> None:
    [problem] = tool("config_manager").check({})[1]
    assert problem.path == "action"
    assert "get, set, delete" in problem.how_to_fix


@pytest.mark.parametrize("inputs", [None, [], "argv", 3])
def test_inputs_that_are_no_mapping_are_refused(tool: Find, inputs: Any) -> None:
    assert faults(tool("command"), inputs) == [""]


def test_an_input_with_a_name_that_is_not_text_is_refused(tool: Find) -> None:
    assert faults(tool("noop"), {1: "x"}) == ["1"]


@pytest.mark.parametrize(
    ("name", "inputs", "path"),
    [
        ("command", {"argv": "df -h"}, "argv"),
        ("command", {"argv": []}, "argv"),
        ("command", {"argv": ["df", 5]}, None),
        ("command", {"argv": ["df", 1.10]}, "argv[1]"),
        ("command", {"argv": ["df", True]}, "argv[1]"),
        ("command", {"argv": ["df", 10**18]}, "argv[1]"),
        ("command", {"argv": ["df", None]}, "argv[1]"),
        ("command", {"argv": ["x" * 32_001]}, "argv[0]"),
        ("command", {"argv": ["x" * 30_000] * 9}, "argv"),
        ("command", {"argv": ["env"], "environment": {"A B": "x"}}, "environment"),
        ("command", {"argv": ["env"], "environment": {"A": 5}}, None),
        ("command", {"argv": ["env"], "environment": {"A": 0.5}}, "environment.A"),
        ("command", {"argv": ["env"], "environment": ["A=5"]}, "environment"),
        ("command", {"argv": ["env"], "working_directory": "tmp"}, "working_directory"),
        ("shell", {"command": ""}, "command"),
        ("shell", {"command": " \n"}, "command"),
        ("shell", {"command": "-c true"}, "command"),
        ("shell", {"command": "+x"}, "command"),
        ("shell", {"command": ["ls"]}, "command"),
        ("wait", {"seconds": -1}, "seconds"),
        ("wait", {"seconds": 86_401}, "seconds"),
        ("wait", {"seconds": "soon"}, "seconds"),
        ("wait", {"seconds": True}, "seconds"),
        ("wait", {"seconds": math.nan}, "seconds"),
        ("wait", {"seconds": math.inf}, "seconds"),
        ("copy", {"path": "/a"}, ""),
        ("copy", {"path": "/a", "content": "x", "source": "/b"}, ""),
        ("copy", {"path": "/a", "content": "x", "mode": 420}, "mode"),
        ("file_manager", {"action": "chmod", "path": "/a", "mode": 420}, "mode"),
        ("copy", {"path": "/a", "content": "x", "mode": "rw"}, "mode"),
        ("copy", {"path": "/a/../b", "content": "x"}, "path"),
        ("copy", {"path": "/" + "é" * 2_048, "content": "x"}, "path"),
        ("copy", {"path": "/a\0", "content": "x"}, "path"),
        ("copy", {"path": "/a", "content": "\ud800"}, "content"),
        ("tcp_port_check", {"host": "a", "port": 0}, "port"),
        ("tcp_port_check", {"host": "a", "port": "80 "}, None),
        ("tcp_port_check", {"host": "a", "port": 80.0}, None),
        ("tcp_port_check", {"host": "a", "port": 80.5}, "port"),
        ("tcp_port_check", {"host": "a", "port": "80;id"}, "port"),
        ("tcp_port_check", {"host": "-a", "port": 80}, "host"),
        ("tcp_port_check", {"host": "a b", "port": 80}, "host"),
        ("tcp_port_check", {"host": "2001:db8::1", "port": 80}, None),
        ("tcp_port_check", {"host": "fe80::1%eth0", "port": 80}, None),
        ("http", {"url": "ftp://example.org/"}, "url"),
        ("http", {"url": "https://"}, "url"),
        ("http", {"url": "https://example.org:99999/"}, "url"),
        ("http", {"url": "https://user:pw@example.org/"}, "url"),
        ("http", {"url": "https://example.org/a b"}, "url"),
        ("http", {"url": "https://example.org/\r\nX: y"}, "url"),
        ("http", {"url": "https://example.org/", "headers": {"A": "b\r\nC: d"}}, "headers.A"),
        ("http", {"url": "https://example.org/", "headers": {"A:": "b"}}, "headers"),
        ("http", {"url": "https://example.org/", "expect_status": [20]}, "expect_status[0]"),
        ("http", {"url": "https://example.org/", "expect_status": "2xx"}, "expect_status[0]"),
        ("http", {"url": "https://example.org/", "method": "TRACE"}, "method"),
        ("http", {"url": "https://example.org/", "body": {"a": {1, 2}}}, "body.a"),
        ("http", {"url": "https://example.org/", "body": {"a": math.nan}}, "body"),
        ("api-request", {"url": "https://example.org/", "body": "a", "json": {}}, ""),
        ("asset-query", {"filters": {"environment": {"is": "production"}}}, "filters.environment"),
        ("asset-query", {"filters": {"tags": ["a", {"b": 1}]}}, "filters.tags[1]"),
        ("asset-query", {"fields": ["name; drop"]}, "fields[0]"),
        ("config_manager", {"action": "set", "path": "/a", "key": "a", "value": "b\nc"}, "value"),
        ("config_manager", {"action": "set", "path": "/a", "key": "a", "value": True}, "value"),
        ("config_manager", {"action": "get", "path": "/a", "key": "a", "section": "x]"}, "section"),
        ("journalctl", {"lines": 0}, "lines"),
        ("file_manager", {"action": "delete", "path": "/a", "recursive": "yes"}, "recursive"),
        ("docker", {"action": "stop", "container": "-f"}, "container"),
        ("http", {"url": "/a", "auth": {"type": "asset", "header": "X-Shop-Key"}}, None),
        ("http", {"url": "/a", "auth": {"type": "asset", "header": "User-Agent"}}, "auth.header"),
        ("http", {"url": "/a", "auth": {"type": "api_key", "api_key": "k", "header": "accept"}}, "auth.header"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_at_its_place(
    tool: Find, name: str, inputs: dict[str, Any], path: str | None
) -> None:
    assert faults(tool(name), inputs) == ([] if path is None else [path])


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(5, 5.0), (0.5, 0.5), ("7", 7.0), ("500ms", 0.5), ("30s", 30.0), ("5m", 300.0), ("2 h", 7200.0), ("1d", 86_400.0)],
)
def test_durations_become_seconds(tool: Find, value: object, seconds: float) -> None:
    assert tool("wait").check({"seconds": value}) == ({"seconds": seconds}, [])


def test_a_whole_number_is_the_text_of_its_digits(tool: Find) -> None:
    checked, _ = tool("command").check({"argv": ["sleep", 5, -1], "environment": {"PORT": 8080}})
    assert (checked["argv"], checked["environment"]) == (["sleep", "5", "-1"], {"PORT": "8080"})
    checked, _ = tool("config_manager").check({"action": "set", "path": "/a", "key": "port", "value": 8080})
    assert checked["value"] == "8080"


@pytest.mark.parametrize(
    ("given", "host", "port"),
    [
        ({"target": "db-1:5432"}, "db-1", 5432), ({"target": "10.0.0.1:22"}, "10.0.0.1", 22),
        ({"target": "db-1", "port": 22}, "db-1", 22), ({"target": "::1", "port": 22}, "::1", 22),
        ({"target": "fe80::1:22", "port": 80}, "fe80::1:22", 80),
    ],
)  # fmt: skip
def test_a_port_may_stand_with_its_host(tool: Find, given: dict[str, Any], host: str, port: int) -> None:
    checked, problems = tool("network_tools").check({"action": "tcp", **given})
    assert (problems, checked["target"], checked["port"]) == ([], host, port)
    checked, problems = tool("tcp_port_check").check(given)
    assert (problems, checked["host"], checked["port"]) == ([], host, port)


def test_a_port_that_is_none_or_means_nothing_is_refused(tool: Find) -> None:
    for target in ("::1", "fe80::1:22"):
        assert faults(tool("network_tools"), {"action": "tcp", "target": target}) == ["port"]
    assert faults(tool("network_tools"), {"action": "tcp", "target": "db-1:0"}) == ["target"]
    assert faults(tool("network_tools"), {"action": "ping", "target": "db-1:22"}) == ["port"]
    assert tool("network_tools").check({"action": "tcp", "target": "{{ hostname }}", "port": 22})[1] == []


def test_a_single_status_may_stand_without_its_list(tool: Find) -> None:
    checked, _ = tool("http").check({"url": "https://example.org/", "expect_status": 204})
    assert checked["expect_status"] == [204]


def test_a_problem_never_repeats_the_value(tool: Find) -> None:
    secret = "hunter2-hunter2"
    inputs = {"action": secret, "path": secret, "mode": secret, "colour": secret, "recursive": secret}
    for problem in tool("file_manager").check(inputs)[1]:
        assert secret not in f"{problem.message} {problem.how_to_fix}"


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("command", {"argv": ["mysql", SECRET]}),
        ("command", {"argv": ["psql"], "environment": {"PGPASSWORD": SECRET}}),
        ("command", {"argv": ["psql"], "stdin": {**SECRET, "key": "password"}}),
        ("http", {"url": SECRET, "headers": {"Authorization": SECRET}, "method": "POST", "body": {"a": [SECRET]}}),
        ("config_manager", {"action": "set", "path": "/a", "key": "a", "value": SECRET}),
        ("copy", {"path": "/a", "content": SECRET}),
    ],
)
def test_a_secret_reference_stands_for_its_value(tool: Find, name: str, inputs: dict[str, Any]) -> None:
    checked, problems = tool(name).check(inputs)
    assert problems == []
    assert checked.items() >= inputs.items()


@pytest.mark.parametrize(
    "reference",
    [{"type": "secret"}, {"type": "secret", "path": ""}, {"type": "secret", "path": 5}, {**SECRET, "default": "x"}],
)
def test_a_malformed_secret_reference_is_refused(tool: Find, reference: dict[str, object]) -> None:
    assert faults(tool("copy"), {"path": "/a", "content": reference}) == ["content"]


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("tcp_port_check", {"host": "{{ hostname }}", "port": "{{ steps.a.stdout }}"}),
        ("copy", {"path": "{{ steps.a.stdout }}", "content": "{{ hostname }}", "mode": "{{ mode }}"}),
        ("file_manager", {"action": "delete", "path": "/srv/{{ hostname }}", "recursive": "{{ yes }}"}),
        ("http", {"url": "https://{{ hostname }}/", "expect_status": "{{ s }}", "headers": {"A": "{{ b }}"}}),
        ("command", {"argv": "{{ list }}"}),
        ("command", {"argv": ["ping", "{{ ip_address }}"], "environment": "{{ e }}"}),
        ("wait", {"seconds": "{{ s }}"}),
    ],
)
def test_templates_are_left_for_later(tool: Find, name: str, inputs: dict[str, Any]) -> None:
    checked, problems = tool(name).check(inputs)
    assert problems == []
    assert checked.items() >= inputs.items()


@pytest.mark.parametrize("value", ["{{ steps.a.stdout }}", SECRET])
@pytest.mark.parametrize(
    ("name", "chooser", "rest"),
    [
        ("http", "method", {"url": "https://example.org/"}),
        ("file_manager", "action", {"path": "/a"}),
        ("systemctl", "action", {"service": "a"}),
        ("info_display", "kind", {}),
    ],
)
def test_what_decides_the_action_cannot_wait(
    tool: Find, name: str, chooser: str, rest: dict[str, Any], value: object
) -> None:
    assert faults(tool(name), {chooser: value, **rest}) == [chooser]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ANY_TOOL = st.sampled_from(list(get_catalog()))


@st.composite
def tool_and_inputs(draw: st.DrawFn) -> tuple[Tool, dict[str, Any]]:
    found = draw(ANY_TOOL)
    names = [*found.parameters, *(alias for one in found.parameters.values() for alias in one.aliases)]
    choices = [word for one in found.parameters.values() for word in one.enum]
    name = st.sampled_from(names) | st.text() if names else st.text()
    value = JSON | (st.sampled_from(choices) if choices else JSON) | st.just("/srv/a") | st.just(SECRET)
    return found, draw(st.dictionaries(name, value, max_size=5))


@given(tool_and_inputs())
def test_whatever_comes_in_is_checked_or_told_about(drawn: tuple[Tool, dict[str, Any]]) -> None:
    found, inputs = drawn
    checked, problems = found.check(inputs)
    found.action_class_for(inputs)
    found.estimated_duration_for(checked)
    for problem in problems:
        assert problem.message
        assert problem.how_to_fix
    if not problems:
        assert found.check(checked) == (checked, [])
        assert checked.keys() <= found.parameters.keys()


def test_every_example_of_an_alias_is_accepted(catalog: Catalog) -> None:
    for found in catalog:
        for parameter in found.parameters.values():
            for alias in parameter.aliases:
                assert found.accepts(alias)
                assert found.parameter(alias) is parameter
    assert not any(found.accepts("use_asset_credentials") for found in catalog)
