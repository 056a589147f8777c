"""Inventories of Ansible as they are written in the field: what becomes of them, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from executions.ansible_inventory.patterns import NoPattern, hosts_of
from executions.ansible_inventory.tree import MOST_HOSTS
from executions.inventory_files import FileContent, check_rows
from executions.inventory_formats import read, read_path

pytestmark = pytest.mark.django_db  # the words of the development environments are settings; nothing is written

INI = """\
# the shop
bastion.example.com ansible_user=ops

[web]
web[01:03].example.com   ansible_port=2222 description="shop front, \\"new\\""

[db]
db-a ansible_host=192.0.2.10 criticality=critical
db-b ansible_host=192.0.2.11

[windows]
win-1 ansible_host=win-1.corp.example ansible_user='CORP\\svc_deploy'

[windows:vars]
ansible_connection=winrm
ansible_winrm_transport=kerberos

[shop:children]
web
db

[shop:vars]
environment = production
owner = "shop team"
ansible_user=deploy

[db:vars]
ansible_user=dba
opsconductor_credential=db/login
"""

YAML = """\
all:
  hosts:
    bastion.example.com: {ansible_user: ops}
  children:
    shop:
      vars: &shop
        environment: production
        owner: shop team
        ansible_user: deploy
      children:
        web:
          hosts:
            web[01:03].example.com:
              ansible_port: 2222
              description: shop front, "new"
        db:
          hosts:
            db-a: {ansible_host: 192.0.2.10, criticality: critical}
            db-b: {ansible_host: 192.0.2.11}
          vars: {ansible_user: dba, opsconductor_credential: db/login}
    windows:
      hosts:
        win-1:
          ansible_host: win-1.corp.example
          ansible_user: CORP\\svc_deploy
      vars: {ansible_connection: winrm, ansible_winrm_transport: kerberos}
"""


def rows(content: FileContent) -> dict[str, dict[str, str]]:
    assert content.problems == []
    return {row.cells["name"]: dict(row.cells) for row in content.rows}


def problems(text: str, kind: str = "ansible-ini") -> list[str]:
    _, found = check_rows(read(text.encode(), kind))
    return [str(problem) for problem in found]


def test_hosts_groups_ranges_and_variables_become_assets() -> None:
    found = rows(read(INI.encode(), "ansible-ini"))
    assert list(found) == ["bastion.example.com", *(f"web0{n}.example.com" for n in (1, 2, 3)), "db-a", "db-b", "win-1"]
    assert found["bastion.example.com"] == {
        "name": "bastion.example.com", "hostname": "bastion.example.com", "connection": "ssh", "username": "ops",
    }  # fmt: skip
    assert found["web02.example.com"] == {
        "name": "web02.example.com", "hostname": "web02.example.com", "connection": "ssh", "port": "2222",
        "username": "deploy", "environment": "production", "owner": "shop team",
        "description": 'shop front, "new"', "groups": "shop;web",
    }  # fmt: skip
    assert found["db-a"] == {
        "name": "db-a", "ip_address": "192.0.2.10", "connection": "ssh", "username": "dba", "criticality": "critical",
        "environment": "production", "owner": "shop team", "credential": "db/login", "groups": "db;shop",
    }  # fmt: skip
    assert found["win-1"] == {
        "name": "win-1", "hostname": "win-1.corp.example", "connection": "powershell", "os_type": "windows",
        "domain": "CORP", "username": "svc_deploy", "groups": "windows",
    }  # fmt: skip
    assert check_rows(read(INI.encode(), "ansible-ini"))[1] == []


def test_what_means_nothing_here_is_left_out_and_named() -> None:
    content = read(INI.encode(), "ansible-ini")
    assert content.remarks == ["Variables that mean nothing here were left out: ansible_winrm_transport."]


def test_the_yaml_form_says_the_same() -> None:
    assert rows(read(YAML.encode(), "ansible-yaml")) == rows(read(INI.encode(), "ansible-ini"))


@pytest.mark.parametrize(("name", "text"), [("hosts", INI), ("hosts.yml", YAML)])
def test_ansible_itself_reads_the_same_hosts_from_them(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / "group_vars" / "db").mkdir(parents=True)
    (tmp_path / "group_vars" / "db" / "os.yml").write_text("os_type: linux\nansible_port: 22\n")
    (tmp_path / "group_vars" / "all.yml").write_text("support_contact: help@example.com\nansible_user: everybody\n")
    (tmp_path / "host_vars").mkdir()
    (tmp_path / "host_vars" / "db-b.yaml").write_text("criticality: low\n")
    listed = subprocess.run(
        [Path(sys.executable).parent / "ansible-inventory", "-i", tmp_path / name, "--list"],
        env={**os.environ, "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp"), "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"},
        capture_output=True, check=True,
    )  # fmt: skip
    assert rows(read(listed.stdout, "ansible-json")) == rows(read_path(tmp_path / name))
    assert rows(read_path(tmp_path))["db-b"]["criticality"] == "low"
    assert rows(read_path(tmp_path))["db-a"]["username"] == "everybody"  # as Ansible ranks group_vars


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("ansible-ini", "[web]\nweb-1 {}=hunter2\n"),
        ("ansible-ini", "[web]\nweb-1\n[web:vars]\n{} = hunter2\n"),
        ("ansible-yaml", "all:\n  hosts:\n    web-1: {{{}: hunter2}}\n"),
        ("ansible-yaml", "all:\n  vars:\n    {}: !vault |\n      $ANSIBLE_VAULT;1.1;AES256\n      hunter2\n"),
        ("ansible-json", '{{"_meta": {{"hostvars": {{"web-1": {{"{}": "hunter2"}}}}}}, "web": ["web-1"]}}'),
        ("ansible-json", '{{"web": {{"hosts": ["w"], "vars": {{"{}": {{"__ansible_vault": "hunter2"}}}}}}}}'),
    ],
)
@pytest.mark.parametrize(
    "name",
    ["ansible_password", "ansible_ssh_pass", "ansible_become_pass", "ansible_winrm_password", "ansible_become_password",
     "password", "private_key", "opsconductor_password"],
)  # fmt: skip
def test_a_secret_by_value_is_refused_by_its_name_and_never_repeated(kind: str, text: str, name: str) -> None:
    said = problems(text.format(name), kind)
    assert [one for one in said if f"The variable {name} of" in one and "set_secret PATH" in one], said
    assert "hunter2" not in " ".join(said)
    assert "hunter2" not in repr(read(text.format(name).encode(), kind))


def test_a_secret_of_a_group_is_told_once_and_where_it_stands() -> None:
    text = "[web]\nweb[1:50]\n[web:vars]\nansible_password=hunter2\n"
    assert [one.partition(":")[0] for one in problems(text)] == ["line 4"]


def test_secrets_of_other_things_and_templates_are_left_out_unread() -> None:
    text = "all:\n  hosts:\n    a: {db_password: hunter2, ansible_password: '{{ lookup_it }}', x: !vault aa}\n"
    content = read(text.encode(), "ansible-yaml")
    assert rows(content)["a"].keys() == {"name", "hostname", "connection"}
    assert content.remarks == ["Variables that mean nothing here were left out: ansible_password, db_password, x."]
    assert "hunter2" not in repr(content)


def test_a_file_that_is_encrypted_as_a_whole_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("[web]\nweb-1\n")
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "web.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n616263\n")
    (problem,) = read_path(tmp_path / "hosts").problems
    assert str(problem).startswith("group_vars/web.yml, line 1: The whole file is encrypted")


def test_nothing_runs_on_the_workers_own_machine_because_ansible_does_so() -> None:
    said = problems("switch-1 ansible_connection=local\nlocalhost ansible_connection=local\n")
    assert len(said) == 1
    assert "would run on the worker's own machine" in said[0]
    given = rows(read(b"box ansible_connection=local opsconductor_connection=local\n", "ansible-ini"))
    assert given["box"]["connection"] == "local"


def test_a_way_that_is_not_ours_is_refused_unless_ours_is_given() -> None:
    assert "reached by 'ansible.netcommon.network_cli'" in problems(
        "sw ansible_connection=ansible.netcommon.network_cli\n"
    )[0]  # fmt: skip
    given = rows(read(b"sw ansible_connection=httpapi opsconductor_connection=api\n", "ansible-ini"))
    assert given["sw"]["connection"] == "api"


def test_an_address_that_only_ansible_could_work_out_is_refused() -> None:
    assert "is a template" in problems("a ansible_host={{base}}.example.com\n")[0]


def test_our_own_variable_wins_over_one_of_the_same_name() -> None:
    text = b"a environment=prod-eu-1 opsconductor_environment=production opsconductor_tags=x;y status=busy\n"
    content = read(text.replace(b"x;y", b"'x;y'"), "ansible-ini")
    found = rows(content)["a"]
    assert (found["environment"], found["tags"]) == ("production", "x;y")
    assert "status" not in found
    assert content.remarks == ["Variables that mean nothing here were left out: status."]


@pytest.mark.parametrize(
    ("pattern", "names", "port"),
    [
        ("web[01:03]", ["web01", "web02", "web03"], None),
        ("web[8:12:2]:22", ["web8", "web10", "web12"], "22"),
        ("[a:c]-[1:2].x", ["a-1.x", "a-2.x", "b-1.x", "b-2.x", "c-1.x", "c-2.x"], None),
        ("r[098:101]", ["r098", "r099", "r100", "r101"], None),
        ("2001:db8::1", ["2001:db8::1"], None),
        ("[2001:db8::1]:2222", ["2001:db8::1"], "2222"),
        ("plain:8022", ["plain"], "8022"),
    ],
)
def test_names_of_hosts_are_ranges_addresses_and_ports(pattern: str, names: list[str], port: str | None) -> None:
    assert hosts_of(pattern) == (names, port)


@pytest.mark.parametrize("pattern", ["a[3:1]", "a[x]", "a[1:b]", "a[1:5:0]", "a[1:2", "a[010:9]"])
def test_a_range_that_is_none_is_refused(pattern: str) -> None:
    with pytest.raises(NoPattern):
        hosts_of(pattern)


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        ("ansible-ini", "a[1:999999999]\n", f"more than {MOST_HOSTS:,} hosts"),
        ("ansible-ini", "a[1:99999]\nb[1:99999]\n", f"more than {MOST_HOSTS:,} hosts"),
        ("ansible-ini", "a[1:99][1:99][1:99][1:99]\n", f"more than {MOST_HOSTS:,} hosts"),
        ("ansible-ini", "", "no assets"),
        ("ansible-ini", "a b\n", "line 1: After the host there is a word that is not name=value"),
        ("ansible-ini", "a x='y\n", "line 1: The line cannot be taken apart"),
        ("ansible-ini", "[g:vars]\nnothing\n", "line 2: A line under :vars must be name=value"),
        ("ansible-ini", "[a:children]\nb\n[b:children]\na\n[a]\nh\n", "line 1: The group 'a' contains itself"),
        ("ansible-ini", "[x;y]\nh\n", "has ; in its name"),
        ("ansible-ini", "h environment=prod\n", "line 1: environment must be one of"),
        ("ansible-ini", "h ansible_port=99999\n", "line 1: port must be a number"),
        ("ansible-ini", "h credential='pa$$ word'\n", "line 1: credential must be the path of a secret"),
        ("ansible-yaml", "- a\n- b\n", "line 1: The file must have names"),
        ("ansible-yaml", "all:\n  host:\n    a:\n", "line 2: The group 'all' has 'host'"),
        ("ansible-yaml", "all:\n  hosts: [a\n", "This is not YAML"),
        ("ansible-yaml", "all:\n  hosts:\n    a:\n    a:\n", "line 4: 'a' is given twice"),
        ("ansible-yaml", "all:\n  hosts:\n    a: {x: !!python/name:os.system }\n", "line 3: The tag"),
        ("ansible-yaml", "a: " + "[" * 100_000, "nested deeper than 60 levels"),
        ("ansible-yaml", 'all: {hosts: {"a\\0b": }}', "There is a NUL character"),
        ("ansible-json", "[]", "must be one object"),
        ("ansible-json", '{"a": ', "This is not JSON"),
        ("ansible-json", "[" * 100_000, "nested too deeply"),
        ("ansible-json", '{"web": {"hosts": "a"}}', "must be a list of names"),
        ("ansible-json", '{"web": {"host": ["a"]}}', "has 'host'"),
        ("ansible-json", '{"web": ["a\\u0000b"]}', "There is a NUL character"),
    ],
)
def test_what_cannot_be_an_inventory_is_refused_with_its_line(kind: str, text: str, says: str) -> None:
    said = problems(text, kind)
    assert any(says in one for one in said), said
    assert "pa$$" not in " ".join(said)


def test_aliases_cannot_blow_up() -> None:
    lines = ["g0: &a0 {hosts: {h: {}}}"]
    lines += [f"g{n}: &a{n} {{children: {{x{n}: *a{n - 1}, y{n}: *a{n - 1}}}}}" for n in range(1, 40)]
    assert any("With its aliases expanded it is too large" in one for one in problems("\n".join(lines), "ansible-yaml"))


def test_a_thousand_groups_within_each_other_are_read() -> None:
    text = "".join(f"[g{n}:children]\ng{n + 1}\n" for n in range(1000)) + "[g1000]\nh\n"
    found = rows(read(text.encode(), "ansible-ini"))
    assert len(found["h"]["groups"].split(";")) == 1001


def test_what_ansible_inventory_prints_keeps_its_numbers_and_words() -> None:
    listed = {
        "_meta": {"hostvars": {"a": {"ansible_port": 2222, "opsconductor_is_active": False, "tags": ["x", "y"]}}},
        "all": {"children": ["ungrouped", "web"]},
        "web": {"hosts": ["a"]},
    }
    assert rows(read(json.dumps(listed).encode(), "ansible-json"))["a"] == {
        "name": "a", "hostname": "a", "connection": "ssh", "port": "2222", "is_active": "false", "tags": "x;y",
        "groups": "web",
    }  # fmt: skip
