"""Retention: when an execution lost its events and output, and the daily `prune`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import migrations, models
from django.utils import timezone

NAME = "prune"


def schedule_prune(apps: Any, schema_editor: Any) -> None:
    """Run it every day at 03:00 UTC. Once made, the row belongs to the operators: change its time in the admin."""
    tomorrow = timezone.now() + timedelta(days=1)
    apps.get_model("django_q", "Schedule").objects.get_or_create(
        name=NAME,
        defaults={
            "func": "executions.retention.prune_daily",
            "schedule_type": "D",
            "next_run": tomorrow.replace(hour=3, minute=0, second=0, microsecond=0),
        },
    )


def remove_schedule(apps: Any, schema_editor: Any) -> None:
    apps.get_model("django_q", "Schedule").objects.filter(name=NAME).delete()


class Migration(migrations.Migration):
    dependencies = [("executions", "0003_functions"), ("django_q", "0018_task_success_index")]

    operations = [
        migrations.AddField(
            model_name="execution",
            name="events_pruned_at",
            field=models.DateTimeField(
                blank=True, help_text="When retention removed its events and output.", null=True
            ),
        ),
        migrations.RunPython(schedule_prune, remove_schedule),
    ]
