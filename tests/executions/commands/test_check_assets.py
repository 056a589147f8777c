"""check_assets as an operator uses it."""

from __future__ import annotations

import io
import json

import pytest
from django.core.management import CommandError, call_command

from executions.models import Asset, AssetGroup, Execution
from safety.accounts import set_roles
from safety.models import User
from tests.executions.engine.conftest import Workers, requester, workers  # noqa: F401
from tests.executions.live.rows import make_user


def run(*arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("check_assets", *arguments, stdout=out, stderr=err)
    assert isinstance(ended.value.code, int)
    return ended.value.code, out.getvalue(), err.getvalue()


@pytest.mark.django_db(transaction=True)
def test_the_command_says_who_answered_and_ends_with_it(workers: Workers, requester: User) -> None:  # noqa: F811
    Asset.objects.create(tenant=requester.tenant, name="gone", ip_address="127.0.0.2", connection="api", port=1)
    group = AssetGroup.objects.create(tenant=requester.tenant, name="all of them")
    group.assets.set(Asset.objects.filter(tenant=requester.tenant))
    workers.start(WORKER_PROCESSES="1", HTTP_ALLOWED_NETWORKS="127.0.0.0/8")
    code, said, _ = run("localhost", "--wait", "30")
    assert code == 0, said
    assert "1 of 1 answered" in said
    code, said, _ = run("--group", "all of them", "--json", "--wait", "30")
    told = json.loads(said.splitlines()[-1])
    assert code == 1
    assert {row["name"]: (row["healthy"], row["error_code"]) for row in told["assets"]} == {
        "localhost": (True, None),
        "gone": (False, "connection_refused"),
    }


@pytest.mark.django_db
def test_the_command_refuses_what_it_cannot_mean() -> None:
    make_user("root", is_superuser=True)
    for arguments, says in (
        ((), "Give the names of assets"),
        (("localhost", "--all"), "Give the names of assets"),
        (("nobody",), "There are 0 assets 'nobody'"),
        (("--group", "none"), "no asset in use"),
        (("--all", "--timeout", "0"), "--timeout must be"),
    ):
        with pytest.raises(CommandError, match=says):
            call_command("check_assets", *arguments)
    assert not Execution.objects.exists()


@pytest.mark.django_db
def test_who_may_not_run_plans_on_an_asset_does_not_check_it() -> None:
    set_roles(make_user("vera"), ["viewer"])
    code, said, errors = run("localhost", "--as", "vera")
    assert code == 2
    assert "forbidden: You may not run plans that read on localhost." in errors
    assert "0 of 0" in said
    assert not Execution.objects.exists()


@pytest.mark.django_db
def test_what_nobody_takes_up_is_still_going() -> None:
    make_user("root", is_superuser=True)
    code, said, _ = run("localhost", "--wait", "0")
    assert code == 4
    assert "pending  localhost" in said
