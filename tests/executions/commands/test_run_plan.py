"""run_plan as a person and as a script use it: against a real installation, and where no worker runs."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

import pytest
from django.core.management import CommandError, call_command

from executions.models import Asset, Execution
from executions.services import Submission, approve, submit
from queueing import control
from safety.accounts import ensure_first_admin
from safety.models import User
from tests.installations import MANAGE, LiveInstallation, wait_until


def shell(name: str, command: str, **fields: Any) -> dict[str, Any]:
    return {"id": name, "tool": "shell", "inputs": {"command": command}, "targets": ["localhost"], **fields}


def plan_file(folder: Path, *steps: dict[str, Any], **fields: Any) -> str:
    """Write a plan that no other test submits, so that none is taken for the repetition of another."""
    path = folder / "plan.json"
    marked = [{**steps[0], "description": str(folder)}, *steps[1:]] if steps else []
    path.write_text(json.dumps({"title": f"plan of {folder.name}", "steps": marked, **fields}))
    return str(path)


def object_of(stdout: str) -> dict[str, Any]:
    """Return the one object that is all of stdout. Checks that it has the promised shape."""
    result: dict[str, Any] = json.loads(stdout)
    assert {"id", "status", "errors", "steps"} <= set(result)
    for step in result["steps"]:
        assert {"id", "status", "targets"} <= set(step)
        for target in step["targets"]:
            assert {"target", "status", "exit_code", "stdout", "stderr", "error"} <= set(target)
    return result


# --- with workers


def test_a_plan_that_succeeds_ends_with_0_and_its_whole_output(
    live_installation: LiveInstallation, tmp_path: Path
) -> None:
    lines = 20_000
    file = plan_file(
        tmp_path,
        shell("count", f"i=0; while [ $i -lt {lines} ]; do echo line $i; i=$((i+1)); done; printf 'grüße\\n' >&2"),
        {"id": "rest", "tool": "wait", "inputs": {"seconds": 0}},
    )
    done = live_installation.run_manage("run_plan", file, "--json")
    assert done.returncode == 0, done.stderr
    result = object_of(done.stdout)
    assert (result["status"], result["errors"]) == ("succeeded", [])
    (target,) = result["steps"][0]["targets"]
    assert target["stdout"] == "".join(f"line {n}\n" for n in range(lines))
    assert target["stderr"] == "grüße\n"
    assert (target["target"], target["status"], target["exit_code"], target["error"]) == (
        "localhost",
        "succeeded",
        0,
        None,
    )
    assert [step["id"] for step in result["steps"]] == ["count", "rest"]


def test_the_second_of_three_steps_exits_3(live_installation: LiveInstallation, tmp_path: Path) -> None:
    file = plan_file(
        tmp_path,
        shell("one", "echo first"),
        shell("two", "echo out; echo oops >&2; exit 3"),
        shell("three", "echo never"),
    )
    done = live_installation.run_manage("run_plan", file, "--json")
    assert done.returncode == 1
    result = object_of(done.stdout)
    assert result["status"] == "failed"
    assert [step["status"] for step in result["steps"]] == ["succeeded", "failed", "skipped"]
    (failed,) = result["steps"][1]["targets"]
    assert (failed["exit_code"], failed["stdout"], failed["stderr"]) == (3, "out\n", "oops\n")
    assert "3" in failed["error"]
    (skipped,) = result["steps"][2]["targets"]
    assert (skipped["status"], skipped["exit_code"], skipped["stdout"]) == ("skipped", None, "")


def test_without_json_it_says_what_became_of_each_step(live_installation: LiveInstallation, tmp_path: Path) -> None:
    file = plan_file(tmp_path, shell("fine", "true"), shell("broken", "echo 'no such table' >&2; exit 4"))
    done = live_installation.run_manage("run_plan", file)
    assert done.returncode == 1
    assert "succeeded  fine" in done.stdout
    assert "failed     broken" in done.stdout
    assert "exit code 4" in done.stdout
    assert "! no such table" in done.stdout
    assert "\x1b[" not in done.stdout + done.stderr


def test_follow_shows_output_while_the_plan_runs(live_installation: LiveInstallation, tmp_path: Path) -> None:
    go = tmp_path / "go"
    file = plan_file(tmp_path, shell("ask", f"echo waiting; while [ ! -e {go} ]; do sleep 0.05; done; echo going"))
    with running(live_installation, "run_plan", file, "--follow") as process:
        assert process.stdout is not None
        read_until(process.stdout, "ask@localhost | waiting")
        assert process.poll() is None
        go.touch()
        rest = process.stdout.read()
        assert process.wait(timeout=30) == 0
    assert "ask@localhost | going" in rest
    assert "execution succeeded" in rest


def test_ctrl_c_stops_waiting_and_not_the_execution(live_installation: LiveInstallation, tmp_path: Path) -> None:
    go, marker = tmp_path / "go", tmp_path / "marker"
    file = plan_file(tmp_path, shell("ask", f"echo waiting; while [ ! -e {go} ]; do sleep 0.05; done; touch {marker}"))
    with running(live_installation, "run_plan", file, "--follow", "--json") as process:
        assert process.stderr is not None
        assert process.stdout is not None
        read_until(process.stderr, "ask@localhost | waiting")
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        result = object_of(process.stdout.read())
        assert process.wait(timeout=30) == 4
    assert f"Execution {result['id']} goes on" in said
    assert f"manage.py cancel_executions {result['id']} --reason" in said
    assert result["status"] == "running"
    go.touch()
    wait_until(marker.exists, what="the end of the step")


def test_a_running_plan_is_cancelled_by_the_command(live_installation: LiveInstallation, tmp_path: Path) -> None:
    file = plan_file(tmp_path, shell("long", "echo started; sleep 300"))
    started = live_installation.run_manage("run_plan", file, "--json", "--wait", "1.5")
    assert started.returncode == 4, started.stderr
    number = object_of(started.stdout)["id"]
    cancelled = live_installation.run_manage("cancel_executions", str(number), "--reason", "wrong window")
    assert cancelled.returncode == 0
    assert f"{number}  cancel" in cancelled.stdout
    again = live_installation.run_manage("run_plan", file, "--json", "--wait", "0")
    assert object_of(again.stdout)["id"] != number  # a cancelled execution does not stand for a new request
    live_installation.run_manage("cancel_executions", str(object_of(again.stdout)["id"]), "--reason", "tidy up")


def test_a_plan_comes_from_standard_input_too(live_installation: LiveInstallation, tmp_path: Path) -> None:
    yaml = f"title: from stdin of {tmp_path.name}\nsteps:\n- {{id: a, tool: noop}}\n"
    done = live_installation.run_manage("run_plan", "-", "--json", input=yaml)
    assert (done.returncode, object_of(done.stdout)["status"]) == (0, "succeeded")


def read_until(stream: IO[str], words: str) -> None:
    """Read lines up to the one with these words; fail when the stream ends before."""
    seen = []
    for line in iter(stream.readline, ""):
        seen.append(line)
        if words in line:
            return
    pytest.fail(f"never said {words!r}: {seen}")


class running:
    """A management command of the installation as a process with pipes; killed at the end of the block."""

    def __init__(self, installation: LiveInstallation, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, MANAGE, *arguments],
            env=installation.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> subprocess.Popen[str]:
        return self.process

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


# --- without workers: the command in this process


@pytest.fixture
def admin(db: None) -> User:
    ensure_first_admin()
    return User.objects.get(username="admin")


def run(*arguments: str) -> tuple[int, str, str]:
    """Return exit status, stdout and stderr."""
    out, errors = io.StringIO(), io.StringIO()
    with pytest.raises(SystemExit) as end:
        call_command("run_plan", *arguments, stdout=out, stderr=errors)
    assert isinstance(end.value.code, int)
    return end.value.code, out.getvalue(), errors.getvalue()


def test_an_empty_plan_is_refused_with_2_and_the_exact_object(admin: User, tmp_path: Path) -> None:
    code, out, errors = run(plan_file(tmp_path), "--json")
    assert code == 2
    refusal = json.loads(out)
    assert list(refusal) == ["id", "status", "errors", "steps"]
    assert (refusal["id"], refusal["status"], refusal["steps"]) == (None, "refused", [])
    assert [error["code"] for error in refusal["errors"]] == ["empty_plan"]
    assert {"code", "path", "message", "how_to_fix"} <= set(refusal["errors"][0])
    assert "empty_plan" in errors
    assert not Execution.objects.exists()


def test_every_problem_of_a_plan_is_told_at_once(admin: User, tmp_path: Path) -> None:
    file = plan_file(
        tmp_path,
        shell("a", "true", targets=["nowhere.example.com"]),
        {"id": "a", "tool": "noop"},
        {"id": "b", "tool": "teleport"},
        {"id": "c", "tool": "wait", "inputs": {"seconds": -1}, "depends_on": ["z"]},
    )
    code, out, errors = run(file, "--json")
    codes = {error["code"] for error in json.loads(out)["errors"]}
    assert code == 2
    assert codes >= {"unknown_asset", "duplicate_step_id", "unknown_tool", "invalid_input", "unknown_dependency"}
    assert all(each in errors for each in codes)


def test_a_file_that_cannot_be_read_is_refused_with_2(admin: User, tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        code, out, errors = run(str(path), "--json")
        assert code == 2
        assert json.loads(out)["errors"][0]["code"] == "unreadable_file"
        assert f"{path} cannot be read" in errors


def test_an_unknown_user_and_no_user_at_all_are_refused_with_what_to_do(db: None, tmp_path: Path) -> None:
    file = plan_file(tmp_path, {"id": "a", "tool": "noop"})
    assert "There is no administrator yet" in run(file)[2]
    ensure_first_admin()
    code, out, errors = run(file, "--as", "nobody", "--json")
    assert (code, json.loads(out)["errors"][0]["code"]) == (2, "unknown_user")
    assert "no active user 'nobody'" in errors


def test_somebody_without_the_right_is_refused(admin: User, tmp_path: Path) -> None:
    User.objects.create_user("visitor")
    code, out, _ = run(plan_file(tmp_path, shell("a", "true")), "--as", "visitor", "--json")
    assert (code, json.loads(out)["status"]) == (2, "refused")
    assert json.loads(out)["errors"][0]["code"] == "forbidden"
    assert not Execution.objects.exists()


def test_a_draining_queue_refuses(admin: User, tmp_path: Path) -> None:
    control.drain(by="user:admin")
    code, out, _ = run(plan_file(tmp_path, {"id": "a", "tool": "noop"}), "--json")
    assert (code, json.loads(out)["errors"][0]["code"]) == (2, "draining")


def test_a_plan_that_needs_approval_ends_with_3_at_once(admin: User, tmp_path: Path) -> None:
    Asset.objects.create(tenant=admin.tenant, name="prod", connection="local", environment="production")
    began = time.monotonic()
    code, out, _ = run(plan_file(tmp_path, shell("a", "true", targets=["prod"])), "--json")
    assert (code, object_of(out)["status"]) == (3, "pending_approval")
    assert time.monotonic() - began < 2


def test_after_the_time_to_wait_it_ends_with_4(admin: User, tmp_path: Path) -> None:
    code, out, errors = run(plan_file(tmp_path, shell("a", "true")), "--json", "--wait", "0.3")
    assert (code, object_of(out)["status"]) == (4, "queued")
    assert "No worker" not in errors  # too early to say


def test_where_no_worker_runs_it_says_so_after_3_seconds(admin: User, tmp_path: Path) -> None:
    code, _, errors = run(plan_file(tmp_path, shell("a", "true")), "--wait", "4.2")
    assert code == 4
    assert errors.lower().count("no worker is running") == 1
    assert "make serve" in errors
    assert "manage.py worker" in errors


def test_the_same_key_and_plan_is_the_same_execution_and_another_plan_is_refused(admin: User, tmp_path: Path) -> None:
    file = plan_file(tmp_path, shell("a", "true"))
    first = object_of(run(file, "--json", "--wait", "0", "--idempotency-key", "k-1")[1])
    _, out, errors = run(file, "--json", "--wait", "0", "--idempotency-key", "k-1")
    assert object_of(out)["id"] == first["id"]
    assert "the same request was made before" in errors
    other = plan_file(tmp_path, shell("a", "false"))
    code, out, _ = run(other, "--json", "--wait", "0", "--idempotency-key", "k-1")
    assert (code, json.loads(out)["errors"][0]["code"]) == (2, "idempotency_key_reused")


def test_it_acts_as_the_user_that_is_named(admin: User, tmp_path: Path) -> None:
    boss = User.objects.create_superuser("boss")
    run(plan_file(tmp_path, {"id": "a", "tool": "noop"}), "--as", "boss", "--wait", "0")
    assert Execution.objects.get().actor == boss


def test_following_shows_every_event_once_also_those_before(admin: User, tmp_path: Path) -> None:
    Asset.objects.create(tenant=admin.tenant, name="prod", connection="local", environment="production")
    file = plan_file(tmp_path, shell("a", "true", targets=["prod"]))
    _, out, _ = run(file, "--follow")
    assert out.count("execution submitted [admin]") == 1
    boss = User.objects.create_superuser("boss")
    approve(Execution.objects.get().pk, by=boss, comment="go on")
    code, out, _ = run(file, "--follow", "--wait", "0")
    assert code == 4
    assert out.count("execution submitted [admin]") == 1
    assert out.count("execution approved - go on [boss]") == 1


@pytest.mark.parametrize("wait", ["-1", "inf", "nan"])
def test_a_time_that_is_none_is_refused(admin: User, tmp_path: Path, wait: str) -> None:
    code, _, errors = run(plan_file(tmp_path, {"id": "a", "tool": "noop"}), f"--wait={wait}")
    assert code == 2
    assert "--wait must be a number of seconds" in errors
    assert not Execution.objects.exists()


def test_the_outcome_of_needs_attention_is_1(admin: User, tmp_path: Path) -> None:
    file = plan_file(tmp_path, shell("a", "true"))
    number = submit(Submission(Path(file).read_bytes()), by=admin).execution_id
    Execution.objects.filter(pk=number).update(status="needs_attention", status_reason="Its outcome is unknown.")
    code, out, _ = run(file)
    assert code == 1
    assert f"execution {number} needs attention: Its outcome is unknown." in out


def test_help_has_an_example_and_the_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        call_command("run_plan", "--help")
    shown = capsys.readouterr().out
    assert "\n  manage.py run_plan examples/plans/host-health.yaml --follow\n" in shown
    assert "\n  3  waits for approval\n" in shown
    with pytest.raises(CommandError, match="required: FILE"):
        call_command("run_plan")


def test_an_unreachable_database_is_a_refusal_not_a_traceback(tmp_path: Path) -> None:
    file = plan_file(tmp_path, {"id": "a", "tool": "noop"})
    environment = {
        **os.environ,
        "DATABASE_URL": f"postgresql://postgres@/none?host={tmp_path}",
        "SECRET_KEY": "x" * 60,
        "DJANGO_SETTINGS_MODULE": "opsconductor.settings",
    }
    done = subprocess.run(
        [sys.executable, MANAGE, "run_plan", file, "--json"],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert json.loads(done.stdout)["errors"][0]["code"] == "database_unreachable"
    assert "Traceback" not in done.stderr
