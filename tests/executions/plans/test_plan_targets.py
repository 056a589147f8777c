"""Targets: exactly what the step names, or a refusal."""

from __future__ import annotations

import pytest

from tests.executions.plans.compiling import compiled, refused, say, step, steps, told
from tests.executions.plans.memory_inventory import LOCALHOST, MemoryInventory, asset


def names(*refs: object) -> list[str]:
    [made] = steps(step(targets=list(refs)))
    return [target["name"] for target in made["targets"]]


def query(**fields: object) -> dict[str, object]:
    return {"id": "find", "tool": "asset-query", "inputs": {"filters": {"tag": "web"}}, **fields}


def on(target: object, **fields: object) -> dict[str, object]:
    return {"id": "act", "tool": "command", "inputs": {"argv": ["id"]}, "target_hosts": target, **fields}


def targets_of(*given: dict[str, object]) -> list[int]:
    return [target["asset_id"] for target in steps(*given)[-1]["targets"]]


@pytest.mark.parametrize("ref", [2, "2", 2.0, "10.0.0.1", "web-1.example.com", "web-1", " web-1 "])
def test_a_machine_is_found_by_id_address_hostname_and_name(ref: object) -> None:
    assert names(ref) == ["web-1"]


@pytest.mark.parametrize(
    "ref", ["web", "eb-1", "web-1.example", "web-*", "%", "999", 999, "-1", "0", "x" * 300, "WEB_1"]
)
def test_nothing_but_an_exact_name_is_found(ref: object) -> None:
    assert told([step(targets=[ref])]) == [("unknown_asset", "steps[0].targets[0]")]


@pytest.mark.parametrize("ref", [True, None, ["web-1"], {"a": 1}, {"hostname": "web-1", "asset_id": 2}, 1.5])
def test_what_cannot_be_a_target_is_refused(ref: object) -> None:
    code = "missing_target" if ref is None else "invalid_input"
    assert [problem.code for problem in refused([step(targets=[ref])])] == [code]


def test_a_number_means_an_id_and_never_a_machine_of_that_name() -> None:
    assert names("42") == ["42"]
    assert told([step(targets=[42])]) == [("unknown_asset", "steps[0].targets[0]")]
    assert told([{"tool": "command", "inputs": {"argv": ["id"]}, "asset_id": "42"}]) == [
        ("unknown_asset", "steps[0].target_asset_id")
    ]


def test_groups_and_tags_stand_for_their_machines() -> None:
    assert names("group:web") == ["web-1", "web-2"]
    assert names("tag:web") == ["web-1", "web-2"]
    assert told([step(targets=["group:nosuch"])]) == [("unknown_asset", "steps[0].targets[0]")]
    assert told([step(targets=["tag:nosuch"])]) == [("unknown_asset", "steps[0].targets[0]")]


def test_a_machine_named_twice_is_one_target_in_the_order_named() -> None:
    assert names("db", "group:web", 2, "10.0.0.2", "db") == ["db", "web-1", "web-2"]


def test_an_id_and_a_hostname_of_the_same_machine_are_one_target() -> None:
    base = {"tool": "command", "inputs": {"argv": ["id"]}}
    assert targets_of({**base, "target_asset_id": 2, "target_hostname": "web-1"}) == [2]
    [problem] = refused([{**base, "target_asset_id": 2, "target_hostname": "web-2"}])
    assert problem.code == "ambiguous_asset"
    assert len(problem.candidates) == 2


def test_a_name_is_looked_up_once_per_plan() -> None:
    inventory = MemoryInventory()
    compiled([step()] * 20, inventory=inventory)
    assert inventory.lookups == ["localhost"]


def test_a_tool_that_needs_no_target_takes_one_that_is_given() -> None:
    plan = compiled([{"tool": "http", "inputs": {"url": "http://{{ hostname }}/"}, "targets": ["group:web"]}])
    assert sorted(plan.targets) == [2, 3]
    assert not plan.targets[2].exclusive
    plan = compiled([{"tool": "http", "inputs": {"url": "http://a.b/", "method": "POST"}, "targets": ["web-1"]}])
    assert plan.targets[2].exclusive


def test_a_step_over_an_asset_query_fans_out_over_its_rows() -> None:
    for template in ("{{ hostname }}", "{{hostname}}", "{{ ip_address }}", "{{ assets[*].hostname }}", "{{ assets }}"):
        assert targets_of(query(), on(template)) == [2, 3], template
    assert targets_of(query(), on("{{ assets[1].hostname }}")) == [3]
    assert targets_of(query(), on(["{{ assets[0].hostname }}", "db"])) == [2, 4]
    assert targets_of(query(), on("{{ steps.find.assets[0].hostname }}")) == [2]
    assert targets_of(query(), on("{{ steps.find.stdout }}")) == targets_of(query(), on("{{ hostname }}"))
    assert targets_of(query(), on("{{ steps['find'].rows[1].name }}")) == [3]
    assert targets_of(query(), on("{{ name }}.example.com")) == [2, 3]


def test_the_rows_fields_that_templates_name_are_stored_for_the_step_that_waits() -> None:
    uses = on("{{ hostname }}", depends_on=["between"], inputs={"argv": ["echo", "{{ tag }}", "{{ hostname }}"]})
    made = steps(query(), step("noop", id="between"), uses)
    assert made[2]["depends_on"] == ["find", "between"]
    assert made[2]["targets"][0]["row"] == {"tag": "web", "hostname": "web-1.example.com"}


def test_the_fields_of_a_query_do_not_narrow_what_is_targeted() -> None:
    assert targets_of(query(inputs={"filters": {"tag": "web"}, "fields": ["name"]}), on("{{ hostname }}")) == [2, 3]


def test_the_nearest_earlier_query_counts() -> None:
    other = query(id="other", inputs={"filters": {"name": "db"}})
    assert targets_of(query(), other, on("{{ hostname }}")) == [4]
    assert targets_of(other, query(), on("{{ hostname }}")) == [2, 3]
    assert targets_of(query(), other, on("{{ hostname }}", depends_on=["find"])) == [2, 3]


def test_a_filter_that_the_inventory_does_not_know_is_refused() -> None:
    [problem] = refused(
        [query(inputs={"filters": {"colour": "red"}}), on("{{ hostname }}"), say("{{ assets[0].name }}")]
    )
    assert (problem.code, problem.path) == ("invalid_input", "steps[0].inputs.filters")
    assert "colour" in problem.message


@pytest.mark.parametrize(
    ("plan", "code"),
    [
        ([on("{{ hostname }}")], "unresolved_placeholder"),
        ([on("{{ hostname }}"), query()], "unresolved_placeholder"),
        ([query(), on("{{ colour }}")], "unresolved_placeholder"),
        ([query(), on("{{ assets[7].hostname }}")], "unresolved_placeholder"),
        ([query(inputs={"filters": {"name": "nosuch"}}), on("{{ hostname }}")], "missing_target"),
        ([step(id="a"), on("{{ steps.a.stdout }}")], "unresolved_placeholder"),
        ([step(id="a"), on("{{ steps.a.assets[0].hostname }}")], "unresolved_placeholder"),
        ([query(), on("{{ hostname | upper }}")], "unresolved_placeholder"),
        ([query(), on("{{ name }}.nosuch.com")], "unknown_asset"),
        ([query(inputs={"filters": {"name": "db"}}), on("{{ ip_address }}.example.com")], "unresolved_placeholder"),
    ],
)
def test_a_target_that_is_not_known_at_submit_is_refused(plan: list[dict[str, object]], code: str) -> None:
    problems = refused(plan)
    assert [problem.code for problem in problems] == [code]
    assert ".target_hosts" in problems[0].path


def test_a_query_with_templates_in_its_filters_gives_no_targets() -> None:
    later = query(inputs={"filters": {"name": "{{ steps.a.stdout }}"}})
    problems = refused([step(id="a"), later, on("{{ hostname }}")])
    assert [(problem.code, problem.path) for problem in problems] == [
        ("unresolved_placeholder", "steps[2].target_hosts")
    ]


def test_a_row_without_an_id_is_found_by_what_the_template_makes_of_it() -> None:
    class Rows(MemoryInventory):
        def query(self, filters: object, fields: object) -> list[dict[str, object]]:
            return [{"hostname": "web-2.example.com"}, {"hostname": "nosuch"}] if filters else [{"hostname": "twin"}]

    problems = refused([query(), on("{{ hostname }}")], inventory=Rows())
    assert [problem.code for problem in problems] == ["unknown_asset"]
    problems = refused([query(inputs={}), on("{{ hostname }}")], inventory=Rows())
    assert [problem.code for problem in problems] == ["ambiguous_asset"]


def test_the_connection_is_the_assets_and_a_wish_for_another_is_shown() -> None:
    [made] = steps(step(connection_type="winrm", targets=["web-1"]))
    assert made["targets"][0]["connection"] == "ssh"
    assert any("powershell" in note for note in made["not_checked"])
    [made] = steps(step(connection_type="local"))
    assert made["not_checked"] == []


def test_local_is_refused_for_a_machine_that_is_not_local() -> None:
    assert told([step(connection_type="local", targets=["web-1"])]) == [("invalid_input", "steps[0].connection_type")]


def test_locks_follow_the_gravest_step_on_each_machine() -> None:
    look = {"tool": "info_display", "inputs": {"kind": "disk"}, "targets": ["group:web"]}
    plan = compiled([look, step(targets=["web-2"]), look])
    assert {use.name: (use.exclusive, use.action_class) for use in plan.targets.values()} == {
        "web-1": (False, "read"),
        "web-2": (True, "modify"),
    }


def test_stored_targets_say_how_the_machine_is_reached() -> None:
    inventory = MemoryInventory(
        [LOCALHOST, asset(8, "win", None, "10.9.9.9", connection="powershell", os_type="windows")]
    )
    [made] = compiled([say("{{ os_type }}", targets=["win"])], inventory=inventory).document["steps"]
    [target] = made["targets"]
    assert target["row"] == {"os_type": "windows"}
    assert {name: value for name, value in target.items() if name != "row"} == {
        "asset_id": 8,
        "name": "win",
        "hostname": None,
        "ip_address": "10.9.9.9",
        "port": None,
        "connection": "powershell",
        "environment": "production",
        "criticality": "medium",
    }
