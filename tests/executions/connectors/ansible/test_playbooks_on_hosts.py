"""A playbook on real machines: each has its own lines and its own outcome, and only evidence is a success."""

from __future__ import annotations

import json
import os
from pathlib import Path

import asyncssh
import pytest

from executions.connectors import ErrorCode, Stop, Target
from tests.executions.connectors.ansible.conftest import unused_port
from tests.executions.connectors.ansible.playing import PLAY, Stage, local, what_is_left
from tests.sshd import Sshd

EVIL = [
    "{{ lookup('pipe', 'id') }}", "{% raw %}", "$(id)", "`id`", "'", '"', "a\nb", "\ttab", "--check", "-e", "!unsafe x",
    "@/etc/passwd", "é 日本語 😀", "\x7f", "\x1b[31m", "", "yes", "1.10", "null", "{a: b}", "# no comment", "&a *a",
]  # fmt: skip


async def test_every_host_has_its_own_lines_and_its_own_outcome(stage: Stage, sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "known_hosts").write_text(f"[localhost]:{sshd.port} {sshd.host_key}\n")
    stage.write(
        """
- {name: Say, raw: "echo {{ word }} from '{{ opsconductor_name }}'"}
- {name: Break, command: "sh -c 'echo oops >&2; exit 3'", when: opsconductor_name == 'bad'}
- {name: Shrug, raw: "false", ignore_errors: true}
- {name: Each, debug: {msg: "item {{ item }}"}, loop: [one, two]}
- {name: Hidden, raw: echo the-hidden-word, no_log: true}
"""
    )
    other_key = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    outcomes = await stage.play(
        [
            sshd.target("good"),
            sshd.target("bad"),
            sshd.target("closed", port=unused_port()),
            sshd.target("changed", host_keys=(other_key,)),
            sshd.target("unknown", host_keys=()),
            sshd.target("by-file", host_keys=(), ip_address=None, hostname="localhost"),
            Target(name="nobody", connection="ssh", hostname="localhost", host_keys=(sshd.host_key,)),
            local("a name, with {{ signs }} & [a:z]"),
        ],
        extra_vars={"word": "hello"},
    )

    assert (outcomes["good"].exit_code, outcomes["good"].error_code) == (0, None)
    counts = {"ok": 4, "changed": 3, "skipped": 1, "rescued": 0, "ignored": 1, "failed": 0}
    assert outcomes["good"].data == counts
    assert stage.stdout("good").startswith("changed: Say\nhello from good\nskipped: Break\nfailed, ignored: Shrug\n")
    assert "ok: Each [one]\nitem one\nok: Each [two]\nitem two\n" in stage.stdout("good")
    assert "Hidden\n  (hidden: no_log)\n" in stage.stdout("good")
    assert "the-hidden-word" not in stage.stdout("good") + stage.stderr("good")

    assert "hello from by-file\n" in stage.stdout("by-file")
    assert outcomes["by-file"].exit_code == 0

    assert (outcomes["bad"].exit_code, outcomes["bad"].error_code) == (2, None)
    assert outcomes["bad"].error == "The task 'Break' failed: non-zero return code (oops)"
    assert "failed: Break\noops\n" in stage.stderr("bad")
    assert stage.stdout("bad") == "changed: Say\nhello from bad\n"

    codes = {name: outcomes[name].error_code for name in ("closed", "changed", "unknown", "nobody")}
    assert codes == {
        "closed": ErrorCode.CONNECTION_REFUSED,
        "changed": ErrorCode.HOST_KEY_CHANGED,
        "unknown": ErrorCode.HOST_KEY_UNKNOWN,
        "nobody": ErrorCode.CREDENTIAL_UNUSABLE,
    }
    assert all(outcomes[name].exit_code is None for name in codes)

    assert outcomes["a name, with {{ signs }} & [a:z]"].exit_code == 0
    assert "hello from a name, with {{ signs }} & [a:z]" in stage.stdout("a name, with {{ signs }} & [a:z]")
    assert what_is_left() == []


async def test_variables_arrive_as_the_data_they_are(stage: Stage, tmp_path: Path) -> None:
    written = tmp_path / "written"
    stage.write(f"- copy: {{content: \"{{{{ {{'words': words, 'nested': nested}} | to_json }}}}\", dest: {written}}}")
    nested = {"{{ 1 + 1 }}": [EVIL, {"deep": 1.5, "yes": True, "none": None, "octal": "0644"}]}
    outcomes = await stage.play([local("here")], extra_vars={"words": EVIL, "nested": nested})

    assert outcomes["here"].exit_code == 0
    assert json.loads(written.read_text()) == {"words": EVIL, "nested": nested}


async def test_check_and_diff_say_what_would_change_and_change_nothing(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("before\n")
    stage.write(
        f'- {{name: Put, copy: {{content: "after\\n", dest: {tmp_path}/file}}}}\n- command: touch {tmp_path}/made'
    )
    outcomes = await stage.play([local("here")], check=True, diff=True)

    assert outcomes["here"].exit_code == 0
    assert outcomes["here"].data["changed"] == 1
    assert "-before\n+after\n" in stage.stdout("here")
    assert (tmp_path / "file").read_text() == "before\n"
    assert not (tmp_path / "made").exists()


async def test_nothing_runs_on_the_worker_that_is_no_target_there(stage: Stage, sshd: Sshd, tmp_path: Path) -> None:
    stage.write(
        f"""
- {{name: Who, raw: "echo over ${{SSH_CONNECTION:+ssh}}"}}
- {{name: Elsewhere, raw: "touch {tmp_path}/delegated", delegate_to: localhost}}
""",
        play=f"- hosts: localhost\n  tasks: [raw: touch {tmp_path}/local]\n{PLAY}  connection: local\n"
        "  remote_user: nobody\n",
    )
    outcomes = await stage.play([sshd.target("far")])

    assert "over ssh\n" in stage.stdout("far")
    assert outcomes["far"].exit_code == 2
    assert "is no target of the step" in (outcomes["far"].error or "")
    assert os.listdir(tmp_path) == [stage.folder.name]


async def test_a_host_that_was_left_behind_because_of_others_is_no_success(stage: Stage) -> None:
    stage.write(
        """
- {name: Break, raw: 'false', when: opsconductor_name == 'bad'}
- raw: 'true'
""",
        play=f"{PLAY}  any_errors_fatal: true\n",
    )
    outcomes = await stage.play([local("good"), local("bad")])

    assert outcomes["bad"].exit_code == 2
    assert outcomes["good"].exit_code == 2
    assert "broken off because of other hosts" in (outcomes["good"].error or "")


async def test_a_host_that_no_task_came_to_is_no_success(stage: Stage) -> None:
    stage.write("- raw: 'true'", play=PLAY.replace("all", "web"))
    outcomes = await stage.play([local("web"), local("db")])

    assert outcomes["web"].exit_code == 0
    assert (outcomes["db"].exit_code, outcomes["db"].error_code) == (None, ErrorCode.INVALID_INVOCATION)
    assert "no task for this host" in (outcomes["db"].error or "")


async def test_a_result_too_long_to_be_handed_on_is_said_to_be_so(stage: Stage) -> None:
    stage.write("- {name: Talk, raw: \"head -c 800000 /dev/zero | tr '\\\\0' x\"}\n- {name: End, raw: echo the end}")
    outcomes = await stage.play([local("here")])

    assert outcomes["here"].exit_code == 0
    assert stage.stdout("here") == "ok: Talk\n  (its result is too long to be shown)\nchanged: End\nthe end\n"


async def test_no_more_hosts_are_worked_at_than_the_step_allows(stage: Stage) -> None:
    stage.write("- debug: {msg: 'at once: {{ ansible_forks }}'}")
    await stage.play([local("one"), local("two"), local("three")], at_once=2)

    assert "at once: 2\n" in stage.stdout("one")


async def test_a_playbook_that_ansible_refuses_ran_nowhere_and_says_why(stage: Stage) -> None:
    stage.write("- there_is_no_such_module: {a: b}")
    outcomes = await stage.play([local("one"), local("two")])

    for outcome in outcomes.values():
        assert (outcome.exit_code, outcome.error_code) == (None, ErrorCode.INVALID_INVOCATION)
        assert "there_is_no_such_module" in (outcome.error or "")
    assert "there_is_no_such_module" in stage.stderr("one")


@pytest.mark.parametrize(
    "name",
    [
        "/etc/site.yml", "../site.yml", "a/../../site.yml", "./site.yml", "-i.yml", "--help.yml", "a b.yml", "a//b.yml",
        "site.yml\n", "a\0.yml", "$(id).yml", "{{ x }}.yml", "site.txt", ".yml", "", "x" * 600 + ".yml", "missing.yml",
        "folder.yml", "out.yml", "linked/secret.yml",
    ],
)  # fmt: skip
async def test_only_a_playbook_of_the_folder_is_run(stage: Stage, tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.yml").write_text(f"{PLAY}  tasks: [command: touch {tmp_path}/ran]\n")
    (tmp_path / "site.yml").write_text("- hosts: all\n")
    (stage.folder / "out.yml").symlink_to(tmp_path / "secret.yml")
    (stage.folder / "linked").symlink_to(tmp_path)
    (stage.folder / "folder.yml").mkdir()
    outcomes = await stage.play([local("here")], playbook=name)

    assert (outcomes["here"].exit_code, outcomes["here"].error_code) == (None, ErrorCode.INVALID_INVOCATION)


async def test_a_playbook_that_is_another_than_was_meant_is_not_run(stage: Stage) -> None:
    stage.write("- raw: 'true'")
    outcomes = await stage.play([local("here")], sha256="0" * 64)

    assert outcomes["here"].error_code == ErrorCode.FILES_CHANGED
    assert "SHA-256 differs" in (outcomes["here"].error or "")


async def test_one_who_was_asked_to_stop_before_runs_nothing(stage: Stage, tmp_path: Path) -> None:
    stage.write(f"- command: touch {tmp_path}/ran")
    stop = Stop()
    stop.request("user")
    outcomes = await stage.play([local("here")], stop=stop)

    assert (outcomes["here"].error_code, outcomes["here"].stop_confirmed) == (ErrorCode.NOT_STARTED, True)
    assert not (tmp_path / "ran").exists()
