"""Intake, ledger and queue anew: what waits for approval is written down, and comes back with the attempts it had."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"

# What waits already gets its row. Told by e-mail it was not, and is not: it has been waiting for a while.
WAITING = """
INSERT INTO executions_pendingapproval (execution_id, asked_at, notice_due_at)
SELECT id, created_at, NULL FROM executions_execution WHERE status = 'pending_approval'
    ON CONFLICT DO NOTHING
"""


class Migration(migrations.Migration):
    dependencies = [("executions", "0007_approvals_of_steps"), ("queueing", "0009_entries_that_come_back")]

    operations = [
        migrations.RunSQL((SQL / "intake.sql").read_text(), migrations.RunSQL.noop),
        migrations.RunSQL((SQL / "ledger.sql").read_text(), migrations.RunSQL.noop),
        migrations.RunSQL(WAITING, migrations.RunSQL.noop),
    ]
