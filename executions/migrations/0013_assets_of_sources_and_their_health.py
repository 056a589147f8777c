"""Assets know what they are synced from, when they were last heard of, and what the last check found."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("executions", "0012_waves"),
        ("safety", "0010_stranger_refusals"),
    ]

    operations = [
        migrations.CreateModel(
            name="AssetSource",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=60)),
                (
                    "begun_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        help_text="When a worker, or a command, last began a sync.",
                    ),
                ),
                ("synced_at", models.DateTimeField(help_text="When a sync last came to its end.", null=True)),
                (
                    "figures",
                    models.JSONField(
                        default=dict, help_text="How many assets were created, updated, ...: of that sync."
                    ),
                ),
                (
                    "error",
                    models.TextField(blank=True, db_default="", help_text="Why the last one did not come to its end."),
                ),
            ],
        ),
        migrations.AddField(
            model_name="asset",
            name="checked_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="asset",
            name="health",
            field=models.CharField(
                blank=True,
                choices=[
                    ("healthy", "Healthy"),
                    ("unreachable", "Unreachable"),
                    ("refused", "Refused"),
                    ("failed", "Failed"),
                ],
                db_default="",
                editable=False,
                max_length=12,
            ),
        ),
        migrations.AddField(
            model_name="asset",
            name="health_code",
            field=models.CharField(blank=True, db_default="", editable=False, max_length=60),
        ),
        migrations.AddField(
            model_name="asset",
            name="health_message",
            field=models.TextField(blank=True, db_default="", editable=False),
        ),
        migrations.AddField(
            model_name="asset",
            name="last_seen_at",
            field=models.DateTimeField(
                editable=False, help_text="When it last answered, or its source last had it.", null=True
            ),
        ),
        migrations.AddField(
            model_name="asset",
            name="missing_since_at",
            field=models.DateTimeField(editable=False, help_text="Since when its source does not have it.", null=True),
        ),
        migrations.AddField(
            model_name="asset",
            name="response_ms",
            field=models.PositiveIntegerField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="asset",
            name="source",
            field=models.CharField(
                blank=True,
                db_default="",
                editable=False,
                help_text="What it is synced from; empty: kept here.",
                max_length=60,
            ),
        ),
        migrations.AddIndex(
            model_name="asset",
            index=models.Index(
                condition=models.Q(("source", ""), _negated=True), fields=["tenant", "source"], name="asset_source"
            ),
        ),
        migrations.AddField(
            model_name="assetsource",
            name="tenant",
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, to="safety.tenant"),
        ),
        migrations.AddConstraint(
            model_name="assetsource",
            constraint=models.UniqueConstraint(fields=("tenant", "name"), name="asset_source_once_per_tenant"),
        ),
    ]
