"""Ledger anew: what it loads of a rollback says how much of its time earlier attempts have spent."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    dependencies = [
        ("executions", "0017_answers_about_rollbacks"),
    ]

    operations = [migrations.RunSQL((SQL / "ledger.sql").read_text(), migrations.RunSQL.noop)]
