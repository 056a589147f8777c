"""Intake anew: what is submitted is in the audit."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    dependencies = [("executions", "0008_functions_of_approvals"), ("safety", "0004_audit")]

    operations = [
        migrations.RunSQL((SQL / "intake_audit.sql").read_text(), "DROP FUNCTION executions_audit(jsonb, bigint[]);"),
        migrations.RunSQL((SQL / "intake.sql").read_text(), migrations.RunSQL.noop),
    ]
