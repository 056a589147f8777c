"""The inventory starts with this machine: the one asset on which something can run without further set-up."""

from typing import Any

from django.db import migrations


def make_localhost(apps: Any, schema_editor: Any) -> None:
    tenant = apps.get_model("safety", "Tenant").objects.get(name="default")
    apps.get_model("executions", "Asset").objects.get_or_create(
        tenant=tenant,
        name="localhost",
        defaults={
            "hostname": "localhost",
            "ip_address": "127.0.0.1",
            "connection": "local",
            "environment": "development",
            "criticality": "low",
            "description": "The machine that the worker runs on.",
        },
    )


class Migration(migrations.Migration):
    dependencies = [("executions", "0001_initial"), ("safety", "0002_defaults")]

    operations = [migrations.RunPython(make_localhost, migrations.RunPython.noop)]
