"""Playbooks in a plan: which may be named, what may be said to them, and that checking one is reading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from executions.tools import get_catalog
from tests.executions.plans.compiling import compiled, refused, step

SHA = "ab" * 32


@pytest.fixture(autouse=True)
def playbooks(settings: Any, tmp_path: Path) -> Path:
    folder = tmp_path / "playbooks"
    (folder / "web").mkdir(parents=True)
    (folder / "web/deploy.yml").write_text("- hosts: all\n")
    (tmp_path / "outside.yml").write_text("- hosts: all\n")
    (folder / "link.yml").symlink_to(tmp_path / "outside.yml")
    settings.ANSIBLE_PLAYBOOKS = folder
    return folder


def plan(**inputs: Any) -> dict[str, Any]:
    one = step("ansible-playbook", id="play", inputs={"playbook": "web/deploy.yml", **inputs}, targets=["localhost"])
    return {"title": "Play", "steps": [one]}


def test_everything_that_may_be_said_to_a_playbook_is_accepted() -> None:
    secret = {"type": "secret", "path": "db/shop"}
    variables = {"version": "1.42.0", "nested": [{"database": secret}], "number": 3, "none": None}
    step = compiled(plan(extra_vars=variables, diff=True, tags="web", skip_tags=["slow"], sha256=SHA)).document[
        "steps"
    ][0]

    assert step["inputs"] == {
        "playbook": "web/deploy.yml", "extra_vars": variables, "check": False, "diff": True, "tags": ["web"],
        "skip_tags": ["slow"], "sha256": SHA,
    }  # fmt: skip
    assert (step["action_class"], step["idempotent"]) == ("modify", False)


@pytest.mark.parametrize("said", [{"check": True}, {"check": "true"}, {"dry_run": True}])
def test_a_playbook_that_only_checks_reads_and_shares_its_locks(said: dict[str, Any]) -> None:
    checking = compiled(plan(**said))

    assert checking.action_class == "read"
    assert not any(use.exclusive for use in checking.targets.values())
    assert checking.document["steps"][0]["idempotent"] is True


@pytest.mark.parametrize("said", [{"extra_vars": {"x": "id"}}, {"variables": "{{ hostname }}"}])
def test_a_playbook_that_checks_with_variables_counts_as_the_real_one(said: dict[str, Any]) -> None:
    """A task with `check_mode: false` is carried out, and what it does may be for the variables to say."""
    checking = compiled(plan(check=True, **said))
    (stored,) = checking.document["steps"]

    assert (checking.action_class, stored["action_class"], stored["idempotent"]) == ("modify", "modify", False)
    assert all(use.exclusive for use in checking.targets.values())
    tool = get_catalog().get("ansible-playbook")
    assert tool is not None
    prepared = tool.prepare({**stored["inputs"], "extra_vars": {"x": "id"}})
    assert (prepared.check, prepared.idempotent) == (True, False)  # checked it is all the same


@pytest.mark.parametrize("check", [False, True])
def test_a_plan_in_check_mode_checks_a_playbook_with_variables_as_the_real_one(check: bool) -> None:
    checking = compiled({**plan(check=check, extra_vars={"x": "id"}), "check": True})
    (stored,) = checking.document["steps"]

    assert (checking.action_class, stored["action_class"], stored["idempotent"]) == ("modify", "modify", False)
    assert (stored["check"], stored.get("unchecked", "")) == (True, "")


def test_no_variables_are_none() -> None:
    assert compiled(plan(check=True, extra_vars={})).action_class == "read"


def test_a_plan_in_check_mode_checks_its_playbooks() -> None:
    checked = compiled({**plan(), "check": True}).document["steps"][0]

    assert (checked["check"], checked["action_class"], checked.get("unchecked", "")) == (True, "read", "")


@pytest.mark.parametrize(
    "name",
    [
        "missing.yml",
        "link.yml",
        "../outside.yml",
        "/etc/passwd",
        "web",
        "-e.yml",
        "web/$(id).yml",
        "{{ hostname }}.yml",
    ],
)
def test_a_playbook_that_is_not_in_the_folder_is_refused_at_once(name: str) -> None:
    (refusal,) = refused(plan(playbook=name))

    assert (refusal.code, refusal.path) == ("invalid_input", "steps[0].inputs.playbook")
    assert refusal.how_to_fix


@pytest.mark.parametrize(
    ("inputs", "path"),
    [
        ({"extra_vars": {"ansible_host": "10.0.0.1"}}, "extra_vars"),
        ({"extra_vars": {"ansible_connection": "local"}}, "extra_vars"),
        ({"extra_vars": {"groups": {}}}, "extra_vars"),
        ({"extra_vars": {"inventory_hostname": "other"}}, "extra_vars"),
        ({"extra_vars": {"opsconductor_fence": 1}}, "extra_vars"),
        ({"extra_vars": {"a b": 1}}, "extra_vars"),
        ({"extra_vars": "a=b"}, "extra_vars"),
        ({"extra_vars": "@/etc/passwd"}, "extra_vars"),
        ({"tags": ["--limit=all"]}, "tags[0]"),
        ({"tags": ["a,b"]}, "tags[0]"),
        ({"skip_tags": ["always"]}, "skip_tags[0]"),
        ({"sha256": "short"}, "sha256"),
        ({"limit": "web"}, "limit"),
        ({"inventory": "hosts"}, "inventory"),
        ({"check": "maybe"}, "check"),
    ],
)
def test_what_would_lead_a_playbook_elsewhere_is_refused(inputs: dict[str, Any], path: str) -> None:
    (refusal,) = refused(plan(**inputs))

    assert (refusal.code, refusal.path) == ("invalid_input", f"steps[0].inputs.{path}")
