"""Decisions on many DLQ entries as rows of their own; every attempt kept, also of executions that were requeued."""

from pathlib import Path
from typing import Any

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

from queueing.fingerprint import fingerprint_of, pattern_of

SQL = (Path(__file__).resolve().parent.parent / "sql" / "queue.sql").read_text()

# An entry that retention removes takes with it what batches wrote of it.
ENTRY = """
ALTER TABLE queueing_deadletterbatchitem ADD CONSTRAINT batch_item_of_entry
    FOREIGN KEY (entry_id) REFERENCES queueing_deadletter (id) ON DELETE CASCADE
"""


def group_open_entries(apps: Any, schema_editor: Any) -> None:
    """Give the open entries of earlier releases the pattern by which they are grouped."""
    model = apps.get_model("queueing", "DeadLetter")
    last = 0
    while rows := list(model.objects.filter(state="open", fingerprint="", pk__gt=last).order_by("pk")[:1000]):
        for row in rows:
            row.pattern = pattern_of(row.error)
            row.fingerprint = fingerprint_of(row.reason, row.pattern)
        model.objects.bulk_update(rows, ["pattern", "fingerprint"])
        last = rows[-1].pk


class Migration(migrations.Migration):
    dependencies = [
        ("queueing", "0006_drop_old_lines"),
    ]

    operations = [
        migrations.CreateModel(
            name="DeadLetterBatch",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("tenant_id", models.BigIntegerField()),
                ("actor_id", models.BigIntegerField(help_text="The user whose rights count, at every slice.")),
                ("by", models.CharField(max_length=200)),
                ("verb", models.CharField(choices=[("requeue", "Requeue"), ("discard", "Discard")], max_length=7)),
                (
                    "start_from",
                    models.CharField(
                        choices=[("as_it_is", "As It Is"), ("failed_step", "Failed Step")],
                        db_default="as_it_is",
                        max_length=11,
                    ),
                ),
                ("reason", models.TextField(blank=True)),
                ("filter", models.JSONField(help_text="The conditions that selected the entries.")),
                (
                    "per_second",
                    models.PositiveIntegerField(
                        help_text="Entries a second at most; empty: as fast as it goes.", null=True
                    ),
                ),
                (
                    "paced_until",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        help_text="The time for which the entries that are done have used up the pace.",
                    ),
                ),
                ("matched", models.PositiveIntegerField()),
                ("counts", models.JSONField(default=dict, help_text="Outcome -> number of entries.")),
                (
                    "state",
                    models.CharField(
                        choices=[("running", "Running"), ("done", "Done"), ("cancelled", "Cancelled")],
                        db_default="running",
                        max_length=9,
                    ),
                ),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                (
                    "ended_by",
                    models.CharField(blank=True, db_default="", help_text="Who cancelled it.", max_length=200),
                ),
            ],
            options={
                "verbose_name": "DLQ batch",
                "verbose_name_plural": "DLQ batches",
            },
        ),
        migrations.CreateModel(
            name="DeadLetterBatchItem",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("execution_id", models.BigIntegerField()),
                (
                    "outcome",
                    models.CharField(
                        choices=[
                            ("waiting", "Waiting"),
                            ("requeued", "Requeued"),
                            ("discarded", "Discarded"),
                            ("moved_on", "Moved On"),
                            ("unknown_outcome", "Unknown Outcome"),
                            ("forbidden", "Forbidden"),
                            ("failed", "Failed"),
                        ],
                        db_default="waiting",
                        max_length=15,
                    ),
                ),
                ("done_at", models.DateTimeField(null=True)),
            ],
        ),
        migrations.RemoveConstraint(
            model_name="attempt",
            name="attempt_once",
        ),
        migrations.AddIndex(
            model_name="deadletter",
            index=models.Index(
                condition=models.Q(("state", "open")), fields=["tenant_id", "created_at"], name="dead_letter_open_since"
            ),
        ),
        migrations.AddIndex(
            model_name="deadletter",
            index=models.Index(fields=["execution_id"], name="dead_letter_of_execution"),
        ),
        migrations.AddConstraint(
            model_name="attempt",
            constraint=models.UniqueConstraint(fields=("execution_id", "token"), name="attempt_of_a_lease_once"),
        ),
        migrations.AddIndex(
            model_name="deadletterbatch",
            index=models.Index(fields=["tenant_id", "-id"], name="batch_list"),
        ),
        migrations.AddIndex(
            model_name="deadletterbatch",
            index=models.Index(condition=models.Q(("state", "running")), fields=["paced_until"], name="batch_running"),
        ),
        migrations.AddConstraint(
            model_name="deadletterbatch",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("ended_at__isnull", True), ("state", "running")),
                    models.Q(models.Q(("state", "running"), _negated=True), ("ended_at__isnull", False)),
                    _connector="OR",
                ),
                name="batch_running_if_and_only_if_not_ended",
            ),
        ),
        migrations.AddConstraint(
            model_name="deadletterbatch",
            constraint=models.CheckConstraint(
                condition=models.Q(("per_second__isnull", True), ("per_second__gte", 1), _connector="OR"),
                name="batch_pace",
            ),
        ),
        migrations.AddField(
            model_name="deadletterbatchitem",
            name="batch",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="items",
                to="queueing.deadletterbatch",
            ),
        ),
        migrations.AddField(
            model_name="deadletterbatchitem",
            name="entry",
            field=models.ForeignKey(
                db_constraint=False,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="decisions",
                to="queueing.deadletter",
            ),
        ),
        migrations.AddIndex(
            model_name="deadletterbatchitem",
            index=models.Index(
                condition=models.Q(("outcome", "waiting")), fields=["batch", "id"], name="batch_item_waiting"
            ),
        ),
        migrations.AddIndex(
            model_name="deadletterbatchitem",
            index=models.Index(fields=["batch", "outcome", "id"], name="batch_item_results"),
        ),
        migrations.AddConstraint(
            model_name="deadletterbatchitem",
            constraint=models.UniqueConstraint(fields=("batch", "entry"), name="entry_once_per_batch"),
        ),
        migrations.AddConstraint(
            model_name="deadletterbatchitem",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("done_at__isnull", True), ("outcome", "waiting")),
                    models.Q(models.Q(("outcome", "waiting"), _negated=True), ("done_at__isnull", False)),
                    _connector="OR",
                ),
                name="item_waiting_if_and_only_if_not_done",
            ),
        ),
        migrations.RunSQL(ENTRY, "ALTER TABLE queueing_deadletterbatchitem DROP CONSTRAINT batch_item_of_entry"),
        # queue_keep_attempts names the constraint of an attempt.
        migrations.RunSQL(SQL, migrations.RunSQL.noop),
        migrations.RunPython(group_open_entries, migrations.RunPython.noop),
    ]
