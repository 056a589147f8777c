"""The idempotency guard as a function of its own (safety/sql/idempotency.sql)."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "idempotency.sql"


class Migration(migrations.Migration):
    dependencies = [("safety", "0002_defaults")]

    operations = [migrations.RunSQL(SQL.read_text(), "DROP FUNCTION idempotency_take;")]
