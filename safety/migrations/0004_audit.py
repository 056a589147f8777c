"""The audit: records, the seals that chain them, and what refuses to change either."""

from pathlib import Path

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql"

# Functions with their owner's rights look for tables in this schema alone, whatever their caller's search_path says
# and whatever tables it has in pg_temp.
PIN = """
DO $$
DECLARE v_function text;
BEGIN
    FOREACH v_function IN ARRAY ARRAY['safety_audit_note()', 'safety_audit_seal(integer, boolean)'] LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, %I, pg_temp', v_function, current_schema());
    END LOOP;
END $$;
"""

TRIGGERS = """
CREATE TRIGGER audit_note AFTER INSERT ON safety_auditrecord REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION safety_audit_note();
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON safety_auditrecord
    FOR EACH STATEMENT EXECUTE FUNCTION safety_audit_refuse();
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON safety_auditseal
    FOR EACH STATEMENT EXECUTE FUNCTION safety_audit_refuse();
"""
DROP_TRIGGERS = """
DROP TRIGGER audit_is_append_only ON safety_auditseal;
DROP TRIGGER audit_is_append_only ON safety_auditrecord;
DROP TRIGGER audit_note ON safety_auditrecord;
"""
DROP_FUNCTIONS = """
DROP FUNCTION safety_audit_seal(integer, boolean), safety_audit_text(safety_auditrecord, bigint, text),
    safety_audit_refuse(), safety_audit_note();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("safety", "0003_idempotency_guard"),
    ]

    operations = [
        migrations.CreateModel(
            name="AuditRecord",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("actor", models.CharField(max_length=200)),
                ("actor_id", models.BigIntegerField(null=True)),
                ("action", models.CharField(max_length=60)),
                ("object_type", models.CharField(blank=True, max_length=60)),
                ("object_id", models.CharField(blank=True, max_length=300)),
                ("object_name", models.CharField(blank=True, max_length=300)),
                ("allowed", models.BooleanField()),
                ("code", models.CharField(blank=True, max_length=60)),
                ("reason", models.TextField(blank=True)),
                ("door", models.CharField(max_length=20)),
                ("address", models.CharField(blank=True, max_length=120)),
                ("data", models.JSONField(default=dict)),
                (
                    "tenant",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="safety.tenant",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="AuditOutbox",
            fields=[
                (
                    "record",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="safety.auditrecord",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="AuditSeal",
            fields=[
                (
                    "record",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="seal",
                        serialize=False,
                        to="safety.auditrecord",
                    ),
                ),
                ("chain", models.BigIntegerField()),
                ("number", models.BigIntegerField()),
                ("hash", models.CharField(max_length=64)),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("chain", "number"), name="seal_number_once_per_chain")],
            },
        ),
        migrations.AddIndex(
            model_name="auditrecord",
            index=models.Index(fields=["tenant", "-id"], name="audit_of_tenant"),
        ),
        migrations.AddIndex(
            model_name="auditrecord",
            index=models.Index(fields=["object_type", "object_id", "-id"], name="audit_of_object"),
        ),
        migrations.AddIndex(
            model_name="auditrecord",
            index=models.Index(
                condition=models.Q(("actor_id__isnull", False)), fields=["actor_id", "-id"], name="audit_of_actor"
            ),
        ),
        migrations.RunSQL((SQL / "audit.sql").read_text() + PIN, DROP_FUNCTIONS),
        migrations.RunSQL(TRIGGERS, DROP_TRIGGERS),
        # Rows come and go all the time, and are looked for from the lowest: what was taken must not be walked over.
        migrations.RunSQL(
            "ALTER TABLE safety_auditoutbox SET (autovacuum_vacuum_scale_factor = 0.02);", migrations.RunSQL.noop
        ),
    ]
