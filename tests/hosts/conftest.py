"""Hosts with workers on one network, and this process on their database."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection
from pytest_django.plugin import DjangoDbBlocker

from opsconductor.embedded_postgres.installation import APP_ROLE, DATABASE, ROLE
from safety.models import Tenant, User
from tests.hosts.network import PASSWORD, Network, NotPossible


@pytest.fixture
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """A network whose server holds an empty installation. Skips where namespaces are not allowed: root is needed."""
    try:
        made = Network(tmp_path_factory.mktemp("network"))
    except NotPossible as refusal:
        pytest.skip(f"no network namespaces on this machine: {refusal}")
    try:
        yield made
    finally:
        made.end()


@pytest.fixture
def requester(network: Network, django_db_blocker: DjangoDbBlocker) -> Iterator[User]:
    """Point this process at the network's database for the length of the test; return somebody who may do anything."""
    settings = connection.settings_dict
    before = dict(settings)
    with django_db_blocker.unblock():
        connection.close()
        settings.update(NAME=DATABASE, USER=ROLE, PASSWORD="", HOST=network.socket_folder, PORT="")
        try:
            with psycopg.connect(host=network.socket_folder, dbname=DATABASE, user=ROLE) as administrator:
                administrator.execute(f"CREATE ROLE {APP_ROLE} LOGIN")
                administrator.execute(f"ALTER ROLE {ROLE} PASSWORD '{PASSWORD}'")
            call_command("migrate", verbosity=0)
            tenant = Tenant.objects.get(name="default")
            yield User.objects.create_superuser("requester", password="not-a-password", tenant=tenant)
        finally:
            connection.close()
            settings.update(before)
