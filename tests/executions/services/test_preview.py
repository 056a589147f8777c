"""The preview: what would run, where, as whom, and how much of a group at once; and what a group's share means."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from guardian.shortcuts import assign_perm

from executions.models import Asset, AssetGroup, Execution
from executions.services import Submission, preview, submit
from safety.models import Tenant, User
from safety.secrets.keeping import store_secret
from tests.executions.services.requests import change, look, make_asset, make_user, plan

pytestmark = [pytest.mark.django_db]


def group_of(size: int, environment: str = "staging") -> list[str]:
    """Make a group `web` and return the names of its machines."""
    group = AssetGroup.objects.create(tenant=Tenant.objects.get(name="default"), name="web")
    group.assets.set([make_asset(f"web-{number}", environment) for number in range(size)])
    return [f"web-{number}" for number in range(size)]


def ssh_machine(name: str, **fields: Any) -> Asset:
    asset = make_asset(name, "staging", **fields)
    Asset.objects.filter(pk=asset.pk).update(connection="ssh")
    return asset


def commands(document: dict[str, Any], by: User) -> list[tuple[str, list[str]]]:
    [step] = preview(document, by=by)["steps"][-1:]
    return [(one["command"], one["targets"]) for one in step["commands"]]


def test_the_waves_are_shown_as_they_would_be(alice: User) -> None:
    names = group_of(12)
    shown = preview(plan(change("x", *names, fan_out={"waves": [1, "25%", "rest"]})), by=alice)["steps"][0]
    assert shown["waves"] == [1, 3, 8]
    assert shown["targets"] == names, "in the order in which they come"
    assert preview(plan(change("x", *names)), by=alice)["steps"][0]["waves"] is None


@pytest.mark.parametrize(("changed", "level"), [(6, 1), (7, 3)])
def test_more_than_half_of_a_group_needs_two_approvers(changed: int, level: int, alice: User) -> None:
    names = group_of(12)
    document = plan(change("x", *names[:changed]))
    shown = preview(document, by=alice)
    assert shown["approval_level"] == level
    assert submit(Submission(document), by=alice).approval_level == level
    assert Execution.objects.get().plan.document["group_shares"] == shown["blast_radius"]["groups"]
    assert shown["blast_radius"]["groups"] == [{"name": "web", "members": 12, "changed": changed}]
    said = [reason for reason in shown["approval_reasons"] if "of a group" in reason]
    assert said == ([f"{changed * 100 / 12:.0f} % of a group, more than 50 %"] if level == 3 else [])


def test_machines_out_of_use_make_no_group_larger_and_small_groups_do_not_count(alice: User) -> None:
    names = group_of(11)
    Asset.objects.filter(name__in=names[9:]).update(is_active=False)
    shown = preview(plan(change("x", *names[:9])), by=alice)
    assert (shown["approval_level"], shown["blast_radius"]["groups"]) == (1, [])


def test_a_whole_group_of_development_machines_runs_by_itself_and_so_does_reading(alice: User) -> None:
    names = group_of(10, "development")
    assert preview(plan(change("x", *names)), by=alice)["approval_level"] == 0
    Asset.objects.filter(name__in=names).update(environment="production")
    read = {"id": "r", "tool": "info_display", "inputs": {"kind": "disk"}, "targets": names}
    shown = preview(plan(read), by=alice)
    assert (shown["approval_level"], shown["blast_radius"]["changed"], shown["blast_radius"]["groups"]) == (0, 0, [])


def test_groups_of_another_tenant_are_not_looked_at(alice: User) -> None:
    names = group_of(10)
    AssetGroup.objects.update(tenant=Tenant.objects.create(name="other"))
    assert preview(plan(change("x", *names)), by=alice)["blast_radius"]["groups"] == []


def test_plans_on_few_machines_cost_no_query_for_groups(alice: User) -> None:
    names = group_of(10)
    with CaptureQueriesContext(connection) as asked:
        preview(plan(change("x", *names[:4])), by=alice)
    assert not [query["sql"] for query in asked.captured_queries if "COUNT" in str(query["sql"])]


def test_it_says_where_as_whom_and_with_what_each_machine_would_be_reached(alice: User) -> None:
    ssh_machine(
        "db-1", ip_address="192.0.2.7", port=2222, username="ops", credential="ssh/db", host_key="ssh-ed25519 A"
    )
    ssh_machine("db-2", hostname="db-2.example.com", credential="ssh/lost")
    store_secret(alice.tenant, "ssh/db", "only-for-this-test", by=None)
    shown = preview(plan(change("x", "db-1", "db-2", "localhost")), by=alice)
    machines = {machine["asset"]: machine for machine in shown["machines"]}
    assert {name: (m["address"], m["user"], m["credential"], m["host_key"]) for name, m in machines.items()} == {
        "db-1": ("192.0.2.7:2222", "ops", {"path": "ssh/db", "state": "present"}, "known"),
        "db-2": ("db-2.example.com", "", {"path": "ssh/lost", "state": "missing"}, "unknown"),
        "localhost": ("the worker's own machine", "", None, ""),
    }
    assert all(machine["lock"] == "exclusive" for machine in machines.values())
    assert [warning.partition(".")[0] for warning in shown["warnings"]] == [
        "The credential ssh/lost of db-2 is not there",
        "The inventory knows no host key of db-2",
    ]
    ssh_machine("db-3", host_key="ssh-ed25519 A")
    warnings = preview(plan(change("x", "db-3")), by=alice)["warnings"]
    assert [warning.partition(".")[0] for warning in warnings] == ["No credential is named for db-3"]


def test_it_says_which_machines_nobody_has_heard_of_for_long(alice: User) -> None:
    ssh_machine("db-7", host_key="ssh-ed25519 A", credential="ssh/db")
    store_secret(alice.tenant, "ssh/db", "only-for-this-test", by=None)
    assert preview(plan(change("x", "db-7")), by=alice)["warnings"] == []
    Asset.objects.filter(name="db-7").update(missing_since_at=Now())
    (warning,) = preview(plan(change("x", "db-7")), by=alice)["warnings"]
    assert warning.startswith("Nobody has heard of db-7 for 30 days")


def test_it_says_when_a_lock_is_not_the_only_one_of_a_machine_and_when_a_machine_is_not_active(alice: User) -> None:
    known = {"host_key": "ssh-ed25519 A", "credential": "ssh/db", "ip_address": "192.0.2.7"}
    ssh_machine("db-7", **known)
    ssh_machine("db-8", **(known | {"port": 2222}))
    store_secret(alice.tenant, "ssh/db", "only-for-this-test", by=None)
    assert preview(plan(change("x", "db-7", "db-8")), by=alice)["warnings"] == []
    ssh_machine("alias", **(known | {"port": 22}))
    Asset.objects.filter(name="db-8").update(status="decommissioned")
    status, twins = preview(plan(change("x", "db-7", "db-8")), by=alice)["warnings"]
    assert status == "The inventory says of db-8 that its status is decommissioned."
    assert twins.startswith("Another asset is at the same address and port as db-7: a lock on one")
    assert "as db-7, alias: a lock" in preview(plan(change("x", "db-7", "alias")), by=alice)["warnings"][0]


def test_who_may_not_run_it_is_told_nothing_of_how_machines_are_reached(alice: User) -> None:
    ssh_machine("db-1", ip_address="192.0.2.7", credential="ssh/db")
    shown = preview(plan(change("x", "db-1")), by=make_user("vera", "viewer"))
    assert (shown["acceptable"], shown["machines"]) == (False, [])


def limited_to(asset: Asset) -> User:
    """Somebody without a role, who may read on one machine and sees no other."""
    nora = make_user("nora")
    assign_perm("execute_read", nora, asset)
    return nora


def ps(target: str) -> dict[str, Any]:
    return {"id": "x", "tool": "ps", "inputs": {}, "targets": [target]}


@pytest.mark.parametrize("target", ["db-1", "group:all", "tag:front"])
def test_a_preview_names_no_machine_that_one_may_not_see(target: str, alice: User) -> None:
    nora = limited_to(make_asset("web-1", tags=["front"]))
    AssetGroup.objects.create(tenant=nora.tenant, name="all").assets.set(
        [Asset.objects.get(name="web-1"), make_asset("db-1", tags=["front"])]
    )
    told = preview(plan(ps(target)), by=nora)
    assert told.keys() == {"acceptable", "errors"}
    assert [problem["code"] for problem in told["errors"]] == ["forbidden"]
    assert target == "db-1" or "db-1" not in json.dumps(told)
    assert "db-1" in preview(plan(ps(target)), by=alice)["steps"][0]["targets"]


def test_of_an_ambiguous_name_those_are_told_that_one_may_see(alice: User) -> None:
    nora = limited_to(make_asset("web-1", hostname="gateway.example.com"))
    make_asset("db-2", hostname="gateway.example.com")
    [problem] = preview(plan(ps("gateway.example.com")), by=nora)["errors"]
    assert (problem["code"], len(problem["candidates"])) == ("ambiguous_asset", 1)
    assert "web-1" in problem["candidates"][0]
    assert len(preview(plan(ps("gateway.example.com")), by=alice)["errors"][0]["candidates"]) == 2


def test_a_query_finds_for_everybody_what_they_may_see(alice: User) -> None:
    nora = limited_to(make_asset("web-1"))
    make_asset("db-1")
    query = {"id": "q", "tool": "asset-query", "inputs": {"filters": {"environment": "production"}}}
    on_each = {"id": "x", "tool": "ps", "inputs": {}, "target_hosts": "{{ assets[*].name }}"}
    assert preview(plan(query, on_each), by=nora)["steps"][1]["targets"] == ["web-1"]
    assert preview(plan(query, on_each), by=alice)["steps"][1]["targets"] == ["web-1", "db-1"]


def test_the_commands_are_shown_as_they_would_run_on_each_machine(alice: User) -> None:
    for number in (1, 2):
        make_asset(f"web-{number}", "staging", hostname=f"web-{number}.example.com")
    step = {"id": "s", "tool": "command", "targets": ["web-1", "web-2"]}
    same = plan({**step, "inputs": {"argv": ["echo", "two words", "$(id)"]}})
    assert commands(same, alice) == [("echo 'two words' '$(id)'", ["web-1", "web-2"])]
    own = plan({**step, "inputs": {"argv": ["echo", "{{ hostname }}"]}})
    assert commands(own, alice) == [("echo web-1.example.com", ["web-1"]), ("echo web-2.example.com", ["web-2"])]
    service = {
        "id": "s",
        "tool": "systemctl",
        "inputs": {"action": "restart", "service": "nginx"},
        "targets": ["web-1"],
    }
    assert commands(plan(service), alice) == [
        ("systemctl --no-pager --no-ask-password restart -- nginx", ["web-1"]),
    ]


def test_what_is_only_known_later_is_named_and_a_secret_is_never_more_than_its_name(alice: User) -> None:
    store_secret(alice.tenant, "web/token", "only-for-this-test", by=None)
    first = {"id": "v", "tool": "command", "inputs": {"argv": ["uname"]}, "targets": ["localhost"]}
    then = {
        "id": "s",
        "tool": "command",
        "inputs": {"argv": ["echo", "{{ steps.v.stdout }}"]},
        "targets": ["localhost"],
    }
    assert commands(plan(first, then), alice) == [("echo '<stdout of v>'", ["localhost"])]
    secret = {"type": "secret", "path": "web/token"}
    ask = {"id": "s", "tool": "http", "inputs": {"url": "https://example.com/", "headers": {"X-Token": secret}}}
    shown = preview(plan(ask), by=alice)
    assert shown["steps"][0]["commands"] == [{"command": "GET https://example.com/", "targets": []}]
    assert "only-for-this-test" not in str(shown)


def test_a_tool_of_ours_with_a_program_inside_shows_its_inputs_and_not_the_program(alice: User) -> None:
    read = {
        "id": "s",
        "tool": "file_manager",
        "inputs": {"action": "read", "path": "/etc/hosts"},
        "targets": ["localhost"],
    }
    assert commands(plan(read), alice) == []
    assert commands(plan(look()), alice) == []
