"""Pools and regions, clusters, autoscaling, attempts that are kept, and what two errors have in common."""

import django.contrib.postgres.fields
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("queueing", "0002_functions"),
    ]

    operations = [
        migrations.CreateModel(
            name="Attempt",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("execution_id", models.BigIntegerField()),
                ("tenant_id", models.BigIntegerField()),
                ("number", models.PositiveIntegerField(help_text="From 1, counted at claim.")),
                ("token", models.BigIntegerField()),
                ("worker_id", models.BigIntegerField()),
                ("worker", models.CharField(help_text="host/pid", max_length=300)),
                ("leased_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "end",
                    models.CharField(
                        choices=[
                            ("handed_back", "Handed Back"),
                            ("lease_expired", "Lease Expired"),
                            ("worker_died", "Worker Died"),
                            ("dead", "Dead"),
                        ],
                        max_length=13,
                    ),
                ),
                ("error", models.TextField(blank=True)),
            ],
        ),
        migrations.CreateModel(
            name="Cluster",
            fields=[
                ("name", models.CharField(max_length=40, primary_key=True, serialize=False)),
                ("host", models.CharField(max_length=255)),
                ("pid", models.PositiveIntegerField()),
                ("version", models.CharField(max_length=40)),
                (
                    "pools",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(db_collation="C", max_length=63),
                        db_default=["*"],
                        help_text='Pools that it serves; "*" is all of them.',
                        size=None,
                    ),
                ),
                (
                    "regions",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(db_collation="C", max_length=63),
                        db_default=["*"],
                        help_text='Regions that it serves; "*" is all of them.',
                        size=None,
                    ),
                ),
                (
                    "processes",
                    models.PositiveSmallIntegerField(help_text="How many worker processes it is to have now."),
                ),
                (
                    "initial_processes",
                    models.PositiveSmallIntegerField(help_text="How many it has when nobody decides otherwise."),
                ),
                ("max_processes", models.PositiveSmallIntegerField(help_text="More than these it cannot have.")),
                ("started_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("last_beat_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("stopped_at", models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name="Pool",
            fields=[
                ("name", models.CharField(db_collation="C", max_length=63, primary_key=True, serialize=False)),
                ("paused", models.BooleanField(db_default=False)),
                ("changed_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("changed_by", models.CharField(blank=True, db_default="", max_length=200)),
                ("reason", models.TextField(blank=True, db_default="")),
            ],
        ),
        migrations.CreateModel(
            name="ScalingDecision",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("cluster", models.CharField(max_length=40)),
                ("host", models.CharField(max_length=255)),
                ("before", models.PositiveSmallIntegerField()),
                ("after", models.PositiveSmallIntegerField()),
                ("reason", models.TextField()),
                ("by", models.CharField(help_text="autoscale, or who asked for it.", max_length=200)),
                ("applied", models.BooleanField(help_text="No: autoscaling ran dry.")),
                ("depth", models.PositiveIntegerField(help_text="Entries that the cluster could have claimed then.")),
                ("waiting_seconds", models.FloatField(help_text="How long the oldest of them had waited.")),
                ("running", models.PositiveIntegerField()),
                ("slots", models.PositiveIntegerField()),
            ],
        ),
        migrations.AddField(
            model_name="deadletter",
            name="fingerprint",
            field=models.CharField(blank=True, db_default="", help_text="Hash of reason and pattern.", max_length=16),
        ),
        migrations.AddField(
            model_name="deadletter",
            name="pattern",
            field=models.TextField(
                blank=True, db_default="", help_text="The error without what differs from case to case."
            ),
        ),
        migrations.AddField(
            model_name="queuecontrol",
            name="autoscale",
            field=models.CharField(
                choices=[("off", "Off"), ("dry_run", "Dry Run"), ("on", "On")], db_default="off", max_length=7
            ),
        ),
        migrations.AddField(
            model_name="queuecontrol",
            name="max_processes",
            field=models.PositiveSmallIntegerField(db_default=8, help_text="Autoscaling: at most, for each cluster."),
        ),
        migrations.AddField(
            model_name="queuecontrol",
            name="min_processes",
            field=models.PositiveSmallIntegerField(db_default=1, help_text="Autoscaling: at least, for each cluster."),
        ),
        migrations.AddField(
            model_name="queuecontrol",
            name="processes",
            field=models.PositiveSmallIntegerField(
                blank=True,
                help_text="Worker processes of all clusters together; empty: each has its own number.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="queueentry",
            name="losses",
            field=models.PositiveSmallIntegerField(
                db_default=0,
                help_text="How often the process that ran it died by itself. Above 0 it is run apart from others.",
            ),
        ),
        migrations.AddField(
            model_name="queueentry",
            name="pool",
            field=models.CharField(
                db_collation="C",
                db_default="default",
                help_text="Only workers that serve this pool claim it.",
                max_length=63,
            ),
        ),
        migrations.AddField(
            model_name="queueentry",
            name="region",
            field=models.CharField(
                blank=True,
                db_collation="C",
                db_default="",
                help_text="Only workers that serve this region claim it; empty: any does.",
                max_length=63,
            ),
        ),
        migrations.AddField(
            model_name="queueentry",
            name="ready_at",
            field=models.DateTimeField(help_text="Since when it waits for nothing but a worker.", null=True),
        ),
        migrations.AddField(
            model_name="queueentry",
            name="revoked_at",
            field=models.DateTimeField(
                help_text="Since when its lease is to end: soon it is renewed no more.", null=True
            ),
        ),
        migrations.AddField(
            model_name="worker",
            name="blamed",
            field=models.BooleanField(
                db_default=False, help_text="It died by itself: something that it ran may be the cause."
            ),
        ),
        migrations.AddField(
            model_name="worker",
            name="capabilities",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=40),
                db_default=[],
                help_text="What its connectors can reach.",
                size=None,
            ),
        ),
        migrations.AddField(
            model_name="worker",
            name="draining",
            field=models.BooleanField(db_default=False),
        ),
        migrations.AddField(
            model_name="worker",
            name="failed",
            field=models.BigIntegerField(db_default=0, help_text="Of those it finished, how many did not succeed."),
        ),
        migrations.AddField(
            model_name="worker",
            name="isolation",
            field=models.BooleanField(db_default=False, help_text="It runs only what a worker has died of before."),
        ),
        migrations.AddField(
            model_name="worker",
            name="loop_lag_ms",
            field=models.PositiveIntegerField(
                db_default=0, help_text="How late its event loop turned at worst, lately."
            ),
        ),
        migrations.AddField(
            model_name="worker",
            name="pools",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(db_collation="C", max_length=63),
                db_default=["*"],
                help_text='Pools that it serves; "*" is all of them.',
                size=None,
            ),
        ),
        migrations.AddField(
            model_name="worker",
            name="regions",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(db_collation="C", max_length=63),
                db_default=["*"],
                help_text='Regions that it serves; "*" is all of them.',
                size=None,
            ),
        ),
        migrations.AddField(
            model_name="worker",
            name="renewal_ms",
            field=models.PositiveIntegerField(db_default=0, help_text="How long its last renewal of leases took."),
        ),
        migrations.AlterField(
            model_name="worker",
            name="cluster",
            field=models.CharField(help_text="The cluster that started it.", max_length=40),
        ),
        migrations.AlterField(
            model_name="worker",
            name="state",
            field=models.CharField(
                choices=[("active", "Active"), ("stopping", "Stopping"), ("stopped", "Stopped"), ("lost", "Lost")],
                db_default="active",
                max_length=8,
            ),
        ),
        migrations.AddConstraint(
            model_name="queuecontrol",
            constraint=models.CheckConstraint(
                condition=models.Q(("max_processes__gte", models.F("min_processes")), ("min_processes__gte", 1)),
                name="control_min_below_max",
            ),
        ),
        migrations.AddConstraint(
            model_name="attempt",
            constraint=models.UniqueConstraint(fields=("execution_id", "number"), name="attempt_once"),
        ),
        migrations.AddIndex(
            model_name="cluster",
            index=models.Index(condition=models.Q(("stopped_at__isnull", True)), fields=["host"], name="cluster_live"),
        ),
        migrations.AddIndex(
            model_name="scalingdecision",
            index=models.Index(fields=["-at"], name="scaling_newest"),
        ),
    ]
