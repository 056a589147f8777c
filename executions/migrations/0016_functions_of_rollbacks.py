"""Ledger anew: it makes the rows of what is to be undone, and loads what they have come to."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    dependencies = [
        ("executions", "0015_services_as_they_answer"),
        ("queueing", "0010_rollbacks_that_failed"),
    ]

    operations = [migrations.RunSQL((SQL / "ledger.sql").read_text(), migrations.RunSQL.noop)]
