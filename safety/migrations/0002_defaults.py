"""The tenant `default`, the five roles and the timeout policies that every installation starts with."""

from typing import Any

from django.db import migrations

ROLES = ("viewer", "requester", "approver", "operator", "admin")

# (sla class, action class): seconds of a step, an execution, an approval; attempts
POLICIES = {
    ("fast", "read"): (5, 10, 300, 3),
    ("fast", "modify"): (8, 15, 600, 3),
    ("fast", "deploy"): (10, 20, 900, 3),
    ("medium", "read"): (15, 30, 600, 5),
    ("medium", "modify"): (20, 45, 900, 5),
    ("medium", "deploy"): (30, 60, 1800, 5),
    ("long", "read"): (60, 300, 1800, 3),
    ("long", "modify"): (120, 600, 3600, 3),
    ("long", "deploy"): (300, 1800, 7200, 3),
}


def make_defaults(apps: Any, schema_editor: Any) -> None:
    apps.get_model("safety", "Tenant").objects.get_or_create(name="default")
    for role in ROLES:
        apps.get_model("auth", "Group").objects.get_or_create(name=role)
    policies = apps.get_model("safety", "TimeoutPolicy").objects
    for (sla_class, action_class), (step, execution, approval, attempts) in POLICIES.items():
        policies.get_or_create(
            sla_class=sla_class,
            action_class=action_class,
            defaults={
                "step_seconds": step,
                "execution_seconds": execution,
                "approval_seconds": approval,
                "max_attempts": attempts,
            },
        )


class Migration(migrations.Migration):
    dependencies = [("safety", "0001_initial")]

    operations = [migrations.RunPython(make_defaults, migrations.RunPython.noop)]
