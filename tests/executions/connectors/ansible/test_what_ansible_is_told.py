"""How targets are told to ansible: names that are only names, keys that are known, and nothing between the lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from executions.connectors import Credential, ErrorCode, Outcome, Target
from executions.connectors.ansible.machines import Describer, Keys, Machine, aliases_of

HOST = asyncssh.generate_private_key("ssh-ed25519")
HOST_KEY = HOST.export_public_key().decode().strip()
USER_KEY = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
BY_KEY = Credential(username="operator", private_key=USER_KEY)


def described(
    target: Target, *, known_hosts: str = "", run_as: str = "", agents: Sequence[str] = ()
) -> Machine | Outcome:
    (one,) = Describer(Keys(Path("/run")), known_hosts, run_as, 7, "run", frozenset(agents)).all([target])
    return one


def target(**changes: Any) -> Target:
    given: dict[str, Any] = {"name": "web", "ip_address": "10.0.0.1", "connection": "ssh", "credential": BY_KEY}
    return Target(**(given | {"host_keys": (HOST_KEY,)} | changes))


def refused(one: Machine | Outcome) -> ErrorCode | None:
    assert isinstance(one, Outcome), one
    assert one.error
    return one.error_code


def test_every_name_is_one_of_its_own_that_means_nothing_to_ansible() -> None:
    names = [
        "web-1",
        "web-1",
        "target-2",
        "all",
        "ungrouped",
        "",
        "a b",
        "{{ x }}",
        "db[1:3]",
        "-x",
        "ünï",
        "!web",
        "~web",
    ]
    aliases = aliases_of([Target(name=name) for name in names])

    assert aliases[0] == "web-1"
    assert len(set(aliases)) == len(names)
    assert not {"all", "ungrouped"} & set(aliases)
    assert all(set(alias) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") and alias[0] != "-" for alias in aliases)


@pytest.mark.parametrize(
    "changes",
    [
        {"ip_address": "10.0.0.1\n  ProxyCommand touch PWNED"},
        {"ip_address": "-oProxyCommand=x"},
        {"ip_address": "a b"},
        {"ip_address": '"'},
        {"credential": Credential(username="a\nHost *", private_key=USER_KEY)},
        {"credential": Credential(username="-l", private_key=USER_KEY)},
        {"credential": Credential(username='x" y', private_key=USER_KEY)},
    ],
)
def test_no_address_and_no_user_gets_into_the_configuration_as_more_than_that(changes: Mapping[str, Any]) -> None:
    assert refused(described(target(**changes))) == ErrorCode.INVALID_INVOCATION


def test_an_agent_that_is_no_path_is_refused() -> None:
    path = "/tmp/agent\n  ProxyCommand x"
    one = target(credential=Credential(username="operator", agent=path))
    assert refused(described(one, agents=[path])) == ErrorCode.CREDENTIAL_UNUSABLE


def test_an_agent_is_told_where_the_worker_allows_it() -> None:
    one = target(credential=Credential(username="operator", agent="/run/agent"))
    assert refused(described(one)) == refused(described(one, agents=["/run"])) == ErrorCode.CREDENTIAL_UNUSABLE
    allowed = described(one, agents=["/run/agent"])
    assert isinstance(allowed, Machine)
    assert "  IdentityAgent /run/agent" in allowed.ssh_blocks[0].splitlines()


def test_a_host_key_is_the_assets_or_that_of_the_file_and_never_none(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"10.0.0.1 {HOST_KEY}\n[10.0.0.2]:2222 {HOST_KEY}\nweb.example {HOST_KEY}\n")

    assert refused(described(target(host_keys=()))) == ErrorCode.HOST_KEY_UNKNOWN
    assert refused(described(target(host_keys=(HOST.get_fingerprint(),)))) == ErrorCode.HOST_KEY_UNKNOWN
    assert refused(described(target(host_keys=("no key at all",)))) == ErrorCode.HOST_KEY_UNKNOWN
    elsewhere = target(host_keys=(), ip_address="10.0.0.2")
    assert refused(described(elsewhere, known_hosts=str(file))) == ErrorCode.HOST_KEY_UNKNOWN
    by_file = [
        described(target(host_keys=()), known_hosts=str(file)),
        described(target(host_keys=(), ip_address="10.0.0.2", port=2222), known_hosts=str(file)),
        described(target(host_keys=(), ip_address=None, hostname="web.example"), known_hosts=str(file)),
    ]
    for one in (described(target()), *by_file):
        assert isinstance(one, Machine)
        assert one.known_hosts == (f"web {' '.join(HOST_KEY.split()[:2])}",)


def test_a_jump_host_is_passed_by_its_own_key_and_is_never_asked_a_password() -> None:
    jump = {"host": "10.0.0.9", "username": "jumper", "private_key": USER_KEY, "host_key": HOST_KEY}
    with_both = Credential(username="operator", password="of-the-target", jump_hosts=(jump,))
    one = described(target(credential=with_both))

    assert isinstance(one, Machine)
    before, last = one.ssh_blocks
    assert before.startswith("Host web+before\n  HostName 10.0.0.9\n")
    assert "PasswordAuthentication no" in before
    assert "KbdInteractiveAuthentication no" in before
    assert "ProxyJump web+before" in last
    assert "of-the-target" not in before + last

    others = [f"web{between}before" for between in ("+", "--", "-", "")]
    assert "web+before" not in aliases_of([target(name=name) for name in others])  # ssh takes the first of two blocks

    by_password = {**jump, "private_key": "", "password": "of-the-jump"}
    with_password = Credential(username="operator", private_key=USER_KEY, jump_hosts=(by_password,))
    assert refused(described(target(credential=with_password))) == ErrorCode.NOT_SUPPORTED
    unknown = Credential(username="operator", private_key=USER_KEY, jump_hosts=({**jump, "host_key": ""},))
    assert refused(described(target(credential=unknown))) == ErrorCode.HOST_KEY_UNKNOWN


def test_a_key_that_many_targets_share_is_opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    real = asyncssh.import_private_key

    def counting(*told: Any) -> asyncssh.SSHKey:
        opened.append(told)
        return real(*told)

    monkeypatch.setattr(asyncssh, "import_private_key", counting)
    keys = Keys(Path("/run"))
    machines = Describer(keys, "", "", 7, "run").all([target(name=f"web-{number}") for number in range(50)])

    assert all(isinstance(one, Machine) for one in machines)
    assert (len(opened), len(keys.private)) == (1, 1)


def test_nobody_runs_on_this_machine_as_somebody_else() -> None:
    assert refused(described(Target(name="here", connection="local"), run_as="postgres")) == ErrorCode.NOT_SUPPORTED


def test_run_as_is_what_every_task_runs_as() -> None:
    one = described(target(), run_as="postgres")
    assert isinstance(one, Machine)
    assert (one.variables["ansible_become"], one.variables["ansible_become_user"]) == (True, "postgres")


def test_nothing_secret_is_in_what_is_printed_of_it() -> None:
    keys = Keys(Path("/run"))
    secret = Credential(username="operator", private_key=USER_KEY, password="pa55w0rd", sudo_password="sud0")
    (one,) = Describer(keys, "", "", 7, "run").all([target(credential=secret)])
    assert not [word for word in ("pa55w0rd", "sud0", "PRIVATE KEY") if word in repr(one) + repr(keys)]
