"""Ledger anew: what it loads of a rollback says whether a person has answered since it began."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    dependencies = [
        ("executions", "0016_functions_of_rollbacks"),
    ]

    operations = [migrations.RunSQL((SQL / "ledger.sql").read_text(), migrations.RunSQL.noop)]
