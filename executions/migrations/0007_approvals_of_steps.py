"""Approvals of steps: a decision names its step and the targets that were shown, and can be withdrawn.

What waits for one has a row of its own.
"""

import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("executions", "0006_intake_calls_the_guard")]

    operations = [
        migrations.CreateModel(
            name="PendingApproval",
            fields=[
                (
                    "execution",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="pending_approval",
                        serialize=False,
                        to="executions.execution",
                    ),
                ),
                (
                    "steps",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=200), blank=True, db_default=[], default=list, size=None
                    ),
                ),
                ("asked_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("attempt", models.PositiveIntegerField(db_default=0)),
                ("attempts_left", models.IntegerField(blank=True, null=True)),
                ("losses", models.PositiveSmallIntegerField(db_default=0)),
                (
                    "notice_due_at",
                    models.DateTimeField(
                        blank=True,
                        db_default=django.db.models.functions.datetime.Now(),
                        help_text="When those who may approve are to be told by e-mail.",
                        null=True,
                    ),
                ),
                ("notice_tries", models.PositiveSmallIntegerField(db_default=0)),
                ("notice_error", models.TextField(blank=True, db_default="")),
            ],
        ),
        migrations.RemoveConstraint(model_name="approval", name="one_decision_per_approver"),
        migrations.AddField(
            model_name="approval",
            name="step",
            field=models.CharField(blank=True, db_default="", max_length=200),
        ),
        migrations.AddField(
            model_name="approval",
            name="targets_hash",
            field=models.CharField(blank=True, db_default="", max_length=64),
        ),
        migrations.AddField(
            model_name="approval",
            name="withdrawn_at",
            field=models.DateTimeField(blank=True, help_text="Since when it does not count any more.", null=True),
        ),
        migrations.AddField(
            model_name="approval",
            name="withdrawn_reason",
            field=models.TextField(blank=True, db_default=""),
        ),
        migrations.AddField(
            model_name="execution",
            name="targets_hash",
            field=models.CharField(
                blank=True, db_default="", help_text="Of the machines as approvers are shown them.", max_length=64
            ),
        ),
        migrations.AddConstraint(
            model_name="approval",
            constraint=models.UniqueConstraint(
                condition=models.Q(("withdrawn_at__isnull", True)),
                fields=("execution", "step", "by"),
                name="one_decision_per_approver_and_step",
            ),
        ),
    ]
