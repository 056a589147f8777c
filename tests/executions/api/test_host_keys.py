"""Pinning a host key at the doors: only what a real machine shows a real worker gets into the inventory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.installations import LiveInstallation
from tests.sshd import Sshd


@pytest.fixture(scope="module")
def http(live_installation: LiveInstallation) -> Iterator[httpx.Client]:
    made = live_installation.run_manage("create_token", "admin")
    headers = {"Authorization": f"Bearer {made.stdout.split()[-1]}"}
    with httpx.Client(base_url=f"{live_installation.base_url}/api/v1/", headers=headers, timeout=90) as client:
        yield client


@pytest.fixture(scope="module")
def admin(live_installation: LiveInstallation) -> Iterator[httpx.Client]:
    """A session of the administrator, as a browser has one."""
    with httpx.Client(base_url=live_installation.base_url, timeout=90, follow_redirects=True) as client:
        post(client, "/login/", {"username": "admin", "password": live_installation.admin_password})
        yield client


def post(client: httpx.Client, path: str, form: dict[str, Any]) -> httpx.Response:
    if "csrftoken" not in client.cookies:
        client.get(path)
    given = {**form, "csrfmiddlewaretoken": client.cookies["csrftoken"]}
    return client.post(path, data=given, headers={"Referer": str(client.base_url)})


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Sshd]:
    """A machine of one's own, since its host key is changed."""
    with closing(Sshd(tmp_path / "machine")) as server:
        yield server


def make_asset(http: httpx.Client, name: str, **fields: Any) -> int:
    made = http.post("assets/", json={"name": name, "environment": "test", "connection": "ssh", **fields})
    assert made.status_code == 201, made.text
    return int(made.json()["id"])


def test_exactly_the_key_that_was_compared_is_pinned_and_no_other(http: httpx.Client, machine: Sshd) -> None:
    number = make_asset(http, "keys-1", **{**machine.asset_fields(), "host_key": ""})

    def look() -> dict[str, Any]:
        told = http.post(f"assets/{number}/host-key/look/")
        assert told.status_code == 200, told.text
        found: dict[str, Any] = told.json()
        return found

    def pin(fingerprint: str, *replaces: str) -> str:
        """Return the code of the refusal, or the key that is known then."""
        told = http.post(
            f"assets/{number}/host-key/pin/", json={"fingerprint": fingerprint, "replaces": list(replaces)}
        ).json()
        return str(told.get("code") or told["host_key"])

    found = look()
    assert (found["complete"], found["standing"], found["known"]) == (True, "new", []), found
    assert found["shown"] == [{"key": machine.host_key, "fingerprint": machine.fingerprint, "known": False}]
    assert http.get(f"assets/{number}/").json()["host_key"] == "", "looking pins nothing"
    assert pin("SHA256:" + "A" * 43) == "another_host_key"
    assert http.get(f"assets/{number}/").json()["host_key"] == ""
    assert pin(machine.fingerprint) == machine.host_key
    assert look()["standing"] == "same"

    # It changes, and once more between the look and the confirmation.
    first = machine.fingerprint
    machine.change_host_key()
    found = look()
    assert (found["standing"], found["known"]) == ("CHANGED", [first])
    compared = machine.fingerprint
    machine.change_host_key()
    assert pin(compared, first) == "another_host_key"
    assert pin(machine.fingerprint) == "host_key_moved_on", "not to say what it replaces is no way to replace it"
    assert pin(machine.fingerprint, first) == machine.host_key

    records = http.get("audit/", params={"action": "asset.pin_host_key", "object_id": number}).json()["results"]
    assert [(one["actor"], one["allowed"], one["code"]) for one in reversed(records)] == [
        ("user:admin", False, "another_host_key"), ("user:admin", True, ""), ("user:admin", False, "another_host_key"),
        ("user:admin", False, "host_key_moved_on"), ("user:admin", True, ""),
    ]  # fmt: skip
    assert records[0]["data"] == {"fingerprint": machine.fingerprint, "replaced": True, "instead_of": [first]}


def test_every_kind_of_key_that_a_machine_has_is_shown_and_any_of_them_is_the_known_one(
    http: httpx.Client, tmp_path: Path
) -> None:
    with closing(Sshd(tmp_path / "ecdsa", host_key_type="ecdsa")) as other:
        ecdsa = other.folder / "host_key"
        with closing(Sshd(tmp_path / "both", f"HostKey {ecdsa}")) as both:
            number = make_asset(http, "keys-2", **{**both.asset_fields(), "host_key": other.fingerprint})
            found = http.post(f"assets/{number}/host-key/look/").json()
    shown = {one["fingerprint"]: one["known"] for one in found["shown"]}
    assert shown == {both.fingerprint: False, other.fingerprint: True}
    assert found["standing"] == "same"


def test_marked_assets_are_compared_and_pinned_in_the_admin(
    http: httpx.Client, admin: httpx.Client, machine: Sshd
) -> None:
    web = make_asset(http, "keys-3", **{**machine.asset_fields(), "host_key": "SHA256:other"})
    gone = make_asset(http, "keys-4", ip_address="127.0.0.1", port=1)
    api = make_asset(http, "keys-5", hostname="api.example.org", connection="api")
    path = "/admin/executions/asset/"
    page = post(admin, path, {"action": "pin_host_keys", "index": "0", "_selected_action": [web, gone, api]}).text
    assert "another key than the known one" in page
    assert "refused the connection" in page
    assert "1 of those marked is not in use or not reached by ssh" in page
    fields = re.findall(r'name="([^"]+)" value="([^"]*)"', page)
    assert (f"key-{web}", machine.fingerprint) in fields
    assert (f"known-{web}", "SHA256:other") in fields

    marked = {"action": "pin_host_keys", "do": "pin", "_selected_action": [web, gone]}
    chosen = {f"key-{web}": machine.fingerprint, f"known-{web}": "SHA256:other", f"key-{gone}": "SHA256:none"}
    said = post(admin, path, {**marked, **chosen}).text
    assert "1 pinned: keys-3" in said
    assert "keys-4 showed no host key" in said
    assert http.get(f"assets/{web}/").json()["host_key"] == machine.host_key
    page = post(admin, path, {"action": "pin_host_keys", "index": "0", "_selected_action": [web]}).text
    assert "It shows the key that is known" in page
    assert "Pin the chosen keys" not in page
    assert "No key was chosen" in post(admin, path, {**marked, f"key-{web}": ""}).text


def test_a_machine_without_host_keys_is_not_asked(http: httpx.Client) -> None:
    number = make_asset(http, "keys-6", hostname="api.example.org", connection="api")
    for verb, body in (("look", None), ("pin", {"fingerprint": "SHA256:a"})):
        told = http.post(f"assets/{number}/host-key/{verb}/", json=body)
        assert (told.status_code, told.json()["code"]) == (409, "no_host_key")
