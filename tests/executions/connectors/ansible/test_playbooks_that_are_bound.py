"""A plan is bound to what stood in the folder of playbooks when it was submitted: nothing else is run."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from executions.connectors import ErrorCode
from executions.connectors.ansible import contents
from executions.connectors.ansible.contents import Reader, changes, copy
from executions.connectors.ansible.playbooks import NoPlaybook
from tests.executions.connectors.ansible.playing import Stage, local, what_is_left
from tests.executions.connectors.recording import wait_until


def fill(folder: Path) -> Path:
    for name, text in {
        "site.yml": "- hosts: all\n",
        "roles/web/tasks/main.yml": "- debug:\n",
        "group_vars/all.yml": "port: 80\n",
        "filter_plugins/names.py": "class FilterModule: pass\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def rewrite_unseen(file: Path) -> None:
    """Another text of the same length, with the times that it had."""
    before = file.stat()
    file.write_text(file.read_text().upper())
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "the playbook": (lambda folder: (folder / "site.yml").write_text("- hosts: web\n"), "site.yml itself"),
    "a task of a role": (lambda folder: (folder / "roles/web/tasks/main.yml").write_text("- raw: rm\n"), "roles"),
    "a variable": (lambda folder: rewrite_unseen(folder / "group_vars/all.yml"), "group_vars"),
    "a new plugin": (lambda folder: (folder / "filter_plugins/more.py").write_text(""), "filter_plugins"),
    "a file that is gone": (lambda folder: (folder / "group_vars/all.yml").unlink(), "group_vars"),
    "a name": (lambda folder: (folder / "roles/web").rename(folder / "roles/app"), "roles"),
    "who may run it": (lambda folder: (folder / "filter_plugins/names.py").chmod(0o755), "filter_plugins"),
    "what a link leads to": (lambda folder: (folder.parent / "shared/vars.yml").write_text("a: 2\n"), "vars"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_a_playbook_may_take_in_is_part_of_what_it_is_bound_to(tmp_path: Path, what: str) -> None:
    folder, shared = fill(tmp_path / "playbooks"), tmp_path / "shared"
    shared.mkdir()
    (shared / "vars.yml").write_text("a: 1\n")
    (folder / "vars").symlink_to(shared)
    reader = Reader()
    long_ago = time.time() - 3600
    for path in (*folder.rglob("*.*"), shared / "vars.yml"):
        os.utime(path, (long_ago, long_ago))
    before = reader.read(folder)
    assert changes(before.of("site.yml"), reader.read(folder), "site.yml") == ""
    alter, part = CHANGES[what]
    alter(folder)
    after = reader.read(folder)

    said = changes(before.of("site.yml"), after, "site.yml")
    assert part in said.rpartition("Other than then: ")[2]
    assert after == copy(folder, tmp_path / "copy"), "who looks with a memory sees what who looks anew does"


def test_what_is_copied_is_what_was_digested_and_no_more(tmp_path: Path) -> None:
    folder = fill(tmp_path / "playbooks")
    (folder / "roles/loop").symlink_to(folder)
    (folder / "nowhere").symlink_to(tmp_path / "missing")
    os.mkfifo(folder / "pipe")
    before = copy(folder, tmp_path / "first")
    for left_out in (".git/HEAD", "filter_plugins/__pycache__/names.cpython-311.pyc"):
        (folder / left_out).parent.mkdir(parents=True)
        (folder / left_out).write_text("other")
    assert copy(folder, tmp_path / "second") == before
    copied = {str(path.relative_to(tmp_path / "second")) for path in (tmp_path / "second").rglob("*") if path.is_file()}
    assert copied == set(before.files) == {
        "site.yml", "roles/web/tasks/main.yml", "group_vars/all.yml", "filter_plugins/names.py",
    }  # fmt: skip


@pytest.mark.parametrize(("limit", "most"), [("MOST_FILES", 3), ("MOST_BYTES", 20)])
def test_a_folder_that_is_too_large_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    folder = fill(tmp_path / "playbooks")
    monkeypatch.setattr(contents, limit, most)
    with pytest.raises(NoPlaybook) as refused:
        Reader().read(folder)
    assert "more than what a plan can be bound to" in refused.value.message
    assert "Large files belong elsewhere" in refused.value.how_to_fix


async def test_with_other_files_than_were_submitted_nothing_runs(stage: Stage, tmp_path: Path) -> None:
    stage.write(f"- {{import_tasks: 'more.yml'}}\n- command: touch {tmp_path}/ran")
    (stage.folder / "more.yml").write_text("- raw: 'true'\n")
    files = Reader().read(stage.folder).of("site.yml")
    assert (await stage.play([local("here")], files=files))["here"].exit_code == 0
    assert (tmp_path / "ran").exists()
    (tmp_path / "ran").unlink()
    (stage.folder / "more.yml").write_text("- raw: 'false'\n")
    outcome = (await stage.play([local("here"), local("there")], files=files))["here"]

    assert (outcome.exit_code, outcome.error_code) == (None, ErrorCode.FILES_CHANGED)
    assert "Other than then: more.yml. Nothing ran." in (outcome.error or "")
    assert "submit the plan again" in (outcome.error or "")
    assert not (tmp_path / "ran").exists()
    assert what_is_left() == []


async def test_a_change_while_it_runs_changes_nothing_of_the_run(stage: Stage, tmp_path: Path) -> None:
    """Tasks that are included are read only when the playbook comes to them."""
    (stage.folder / "late.yml").write_text(f"- shell: echo submitted > {tmp_path}/which\n")
    stage.write(
        f"- shell: touch {tmp_path}/begun; until [ -e {tmp_path}/go ]; do sleep 0.05; done\n- include_tasks: late.yml"
    )
    files = Reader().read(stage.folder).of("site.yml")
    running = asyncio.ensure_future(stage.play([local("here")], files=files))
    await asyncio.to_thread(wait_until, (tmp_path / "begun").exists, within_seconds=30)
    (stage.folder / "late.yml").write_text(f"- shell: echo changed > {tmp_path}/which\n")
    (tmp_path / "go").touch()

    assert (await running)["here"].exit_code == 0
    assert (tmp_path / "which").read_text() == "submitted\n"
