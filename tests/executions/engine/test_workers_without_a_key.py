"""`manage.py worker` with DATABASE_URL and no SECRET_KEY: it runs executions, and leaves alone what others signed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from django.conf import settings
from django_q.brokers import get_broker
from django_q.models import OrmQ, Task
from django_q.tasks import async_task

from safety.models import Tenant
from safety.secrets.keeping import store_secret
from tests.executions.engine.conftest import Workers, assert_nothing_left_behind, ended, printed, shell
from tests.installations import PROJECT, refused, wait_until

pytestmark = [pytest.mark.django_db(transaction=True)]

Begin = Callable[..., int]


@pytest.fixture
def bare(process_environment: dict[str, str]) -> dict[str, str]:
    """All that a worker's host needs to say."""
    return {"PATH": os.environ["PATH"], "DATABASE_URL": process_environment["DATABASE_URL"]}


def test_a_worker_needs_nothing_but_the_databases_url(workers: Workers, begin: Begin, bare: dict[str, str]) -> None:
    store_secret(Tenant.objects.get(name="default"), "db", "x", by=None)
    workers.environment = bare
    workers.start()
    execution_id = begin(shell("one", "echo it runs"))
    assert ended(execution_id).status == "succeeded"
    assert printed(execution_id, "one") == "it runs\n"
    # But for secrets of the embedded store: then it says what it lacks.
    inputs = {"argv": ["cat"], "stdin": {"type": "secret", "path": "db"}}
    with_secret = begin({"id": "one", "tool": "command", "inputs": inputs, "targets": ["localhost"]})
    assert "FIELD_ENCRYPTION_KEYS" in ended(with_secret).status_reason
    assert workers.stop() == 0
    assert_nothing_left_behind()


def test_a_worker_without_the_key_leaves_tasks_of_django_q2_to_those_who_have_it(
    workers: Workers, begin: Begin, bare: dict[str, str]
) -> None:
    """django-q2 throws away what it cannot read."""
    given = dict(workers.environment)
    task = async_task("math.factorial", 20, broker=get_broker())
    stored = OrmQ.objects.get()
    workers.environment = bare
    workers.start()
    assert ended(begin(shell("one", "true"))).status == "succeeded"
    assert workers.stop() == 0
    left = OrmQ.objects.get()
    assert (left.pk, left.lock, left.payload) == (stored.pk, stored.lock, stored.payload)

    workers.environment = given
    workers.start()
    wait_until(lambda: Task.objects.filter(pk=task, success=True).exists(), what="the task")
    wait_until(lambda: not OrmQ.objects.exists(), what="the end of its message")
    assert Task.objects.get(pk=task).result == 2432902008176640000


@pytest.mark.parametrize("has_key", [False, True])
def test_only_who_has_the_key_looks_after_the_schedules_of_django_q2(bare: dict[str, str], has_key: bool) -> None:
    program = (
        "import sys; sys.argv = ['manage.py', 'worker']; import django; django.setup();"
        "from django_q.conf import Conf; from django.conf import settings;"
        "print(Conf.SCHEDULER, len(settings.SECRET_KEY) > 50)"
    )
    key = {"SECRET_KEY": settings.SECRET_KEY} if has_key else {}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**bare, **key, "DJANGO_SETTINGS_MODULE": "opsconductor.settings"},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(has_key), "True"]


@pytest.mark.parametrize("command", ["serve", "migrate", "create_token"])
def test_everything_but_a_worker_is_refused_without_the_key(bare: dict[str, str], command: str) -> None:
    said = refused([command], bare)
    assert said == (
        "SECRET_KEY is not set: with DATABASE_URL everything but `manage.py worker` needs one"
        " (50 random characters or more)."
    )
