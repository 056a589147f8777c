"""Intake anew: it calls the idempotency guard (safety/sql/idempotency.sql)."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "intake.sql"


class Migration(migrations.Migration):
    dependencies = [("executions", "0005_functions"), ("safety", "0003_idempotency_guard")]

    operations = [migrations.RunSQL(SQL.read_text(), migrations.RunSQL.noop)]
