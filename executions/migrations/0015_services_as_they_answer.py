"""What processes say of the services that they ask, and how often they asked."""

import django.contrib.postgres.fields
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("executions", "0014_ids_of_mirrored_assets"),
    ]

    operations = [
        migrations.CreateModel(
            name="ServiceStanding",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("service", models.CharField(max_length=20)),
                ("process", models.CharField(max_length=200)),
                ("state", models.CharField(max_length=9)),
                ("failures", models.PositiveIntegerField(help_text="In a row, up to now.")),
                ("reason", models.TextField(blank=True, help_text="Of the last failure.")),
                (
                    "changed_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        help_text="Since when the breaker is in this state.",
                    ),
                ),
                ("reported_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("service", "process"), name="service_standing_once")],
            },
        ),
        migrations.CreateModel(
            name="ServiceTraffic",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("service", models.CharField(max_length=20)),
                ("outcome", models.CharField(max_length=20)),
                ("requests", models.BigIntegerField(default=0)),
                ("retried", models.BigIntegerField(default=0, help_text="Those that were followed by another try.")),
                ("seconds", models.FloatField(default=0)),
                (
                    "buckets",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.BigIntegerField(),
                        default=list,
                        help_text="By duration; see clients/traffic.py.",
                        size=None,
                    ),
                ),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("service", "outcome"), name="service_traffic_once")],
            },
        ),
    ]
