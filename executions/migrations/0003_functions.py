"""The functions of intake and ledger (executions/sql/)."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    dependencies = [("executions", "0002_localhost"), ("queueing", "0002_functions"), ("safety", "0002_defaults")]

    operations = [
        migrations.RunSQL((SQL / "intake.sql").read_text(), "DROP FUNCTION executions_intake, executions_insert;"),
        migrations.RunSQL((SQL / "ledger.sql").read_text(), "DROP FUNCTION ledger_commit, executions_load;"),
        # Executions move several times: room on the page keeps those updates HOT.
        migrations.RunSQL(
            "ALTER TABLE executions_execution SET (fillfactor = 70);"
            "ALTER TABLE executions_step SET (fillfactor = 70);"
            "ALTER TABLE executions_steptarget SET (fillfactor = 70);",
            migrations.RunSQL.noop,
        ),
    ]
