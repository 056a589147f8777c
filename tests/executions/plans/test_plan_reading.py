"""From text to values: what JSON and YAML may hold, and what is refused before anything is looked at."""

from __future__ import annotations

import datetime

import pytest

from executions.plans import PlanLimits
from executions.plans.limits import PlanLimits as Limits
from executions.plans.reading import read
from tests.executions.plans.compiling import compiled, refused, step


def values(document: object) -> object:
    return read(document, Limits())


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ('{"steps": [}', "line 1, column 12"),
        ("steps:\n  - tool: [noop\n", "line 3, column 1"),
        ("steps:\n\t- tool: noop", "line 2, column 1"),
        ("a: 1\n---\nb: 2", "a second document begins at line 2"),
        ("steps: !!python/object:os.system {}", "tag"),
        ("a: !!binary abcd", "tag"),
        ("? [a]\n: b", "a key must be text"),
        ("a: *nowhere", "alias"),
        ("a: &a [*a]", "alias"),
        ("a: .nan", "NaN"),
        ("a: \x07", "not allowed at line 1, column 4"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(document: str, says: str) -> None:
    [problem] = refused(document)
    assert (problem.code, problem.path) == ("invalid_input", "plan")
    assert says in problem.message


@pytest.mark.parametrize(
    "document",
    ['{"steps": [], "steps": []}', "steps: []\nsteps: []", '{"steps": [{"tool": "noop", "tool": "shell"}]}'],
)
def test_a_key_given_twice_is_refused(document: str) -> None:
    [problem] = refused(document)
    assert problem.code == "invalid_input"
    assert "twice" in problem.message


@pytest.mark.parametrize("document", ['{"steps": [NaN]}', '{"steps": [-Infinity]}', '{"a": 1e999}', "a: 1e999"])
def test_numbers_that_are_none_are_refused(document: str) -> None:
    assert [problem.code for problem in refused(document)] == ["invalid_input"]


@pytest.mark.parametrize(
    "document", [f'{{"a": {"9" * 5000}}}', f"a: {2**63}", {"a": -(2**63) - 1}, {"a": 1e300}, '{"a": -1e19}']
)
def test_numbers_beyond_64_bits_are_refused(document: object) -> None:
    assert [problem.code for problem in refused(document)] == ["invalid_input"]


@pytest.mark.parametrize("text", ["a\\u0000b", "\\ud800"])
def test_text_that_the_database_cannot_hold_is_refused_with_its_path(text: str) -> None:
    [problem] = refused(f'{{"steps": [{{"tool": "noop", "description": "{text}"}}]}}')
    assert (problem.code, problem.path) == ("invalid_input", "steps[0].description")


def test_bytes_that_are_not_utf8_are_refused() -> None:
    [problem] = refused(b"steps: [\xff]")
    assert "UTF-8" in problem.message


@pytest.mark.parametrize("value", [datetime.date(2026, 1, 1), {1, 2}, b"bytes", object(), 1j])
def test_values_that_are_not_of_json_are_refused(value: object) -> None:
    [problem] = refused({"steps": [step(description=value)]})
    assert (problem.code, problem.path) == ("invalid_input", "steps[0].description")


@pytest.mark.parametrize(
    "document", ["[" * 1000 + "]" * 1000, "[" * 100_000, "- " * 1000, "a:\n" + " - " * 500, "{a: " * 99]
)
def test_deep_nesting_is_refused(document: str) -> None:
    assert [problem.code for problem in refused(document)] == ["plan_too_large"]


def test_values_that_contain_themselves_are_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    assert [problem.code for problem in refused({"steps": endless})] == ["plan_too_large"]


def test_aliases_that_blow_up_are_refused_at_once() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        bomb += f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n"
    assert [problem.code for problem in refused(bomb)] == ["plan_too_large"]
    merges = "a: &a {k: v}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        merges += f"{name}: &{name} {{<<: [{', '.join(['*' + before] * 9)}], k{name}: v}}\n"
    assert [problem.code for problem in refused(merges)] == ["plan_too_large"]


def test_an_alias_and_a_merge_stand_for_what_they_name() -> None:
    document = "base: &base {a: 1, b: 2}\nlist: &list [x]\nown: {<<: *base, b: 3}\nagain: [*list, *list]"
    made = values(document)
    assert made == {"base": {"a": 1, "b": 2}, "list": ["x"], "own": {"b": 3, "a": 1}, "again": [["x"], ["x"]]}
    assert isinstance(made, dict)
    assert made["again"][0] is not made["again"][1]


def test_yaml_words_are_those_of_json() -> None:
    document = "[0644, 12:30, 1_000, yes, on, 2026-01-02, 0x1F, ~, true, 12, -1.5, 1e3, '5', \"\", =, !!str 7, +3]"
    assert values(document) == [
        "0644", "12:30", "1_000", "yes", "on", "2026-01-02", "0x1F", None, True, 12, -1.5, 1000.0, "5", "", "=", "7", 3,
    ]  # fmt: skip


def test_json_that_is_yaml_is_read_as_yaml() -> None:
    assert values('{"steps": [1, 2,],}') == {"steps": [1, 2]}
    assert values("{a: b}") == {"a": "b"}


def test_keys_become_text() -> None:
    assert values("{1: a, true: b, 1.5: c}") == {"1": "a", "true": "b", "1.5": "c"}
    assert [problem.code for problem in refused({"steps": [step()], 1: "a", "1": "b"})] == ["invalid_input"]
    assert [problem.code for problem in refused({"steps": [step()], None: "a"})] == ["invalid_input"]


def test_unicode_windows_paths_and_line_breaks_arrive_as_they_are() -> None:
    text = 'C:\\Users\\Zoë\\"Программы"\n\t日本語 🚀'
    [made] = compiled([step(inputs={"argv": ["echo", text]})]).document["steps"]
    assert made["inputs"]["argv"] == ["echo", text]


def test_the_size_is_counted_before_anything_is_parsed() -> None:
    assert [p.code for p in refused(b"[" * 5000, limits=PlanLimits(max_bytes=4999))] == ["plan_too_large"]
