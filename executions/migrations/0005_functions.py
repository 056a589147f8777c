"""Intake and ledger anew: pool and region of an entry, attempts that are kept, what errors have in common."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    dependencies = [("executions", "0004_retention"), ("queueing", "0005_functions")]

    operations = [
        migrations.RunSQL((SQL / "intake.sql").read_text(), migrations.RunSQL.noop),
        migrations.RunSQL((SQL / "ledger.sql").read_text(), migrations.RunSQL.noop),
    ]
