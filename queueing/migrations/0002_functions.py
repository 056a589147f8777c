"""The queue's functions (queueing/sql/queue.sql) and the one row of its control."""

from pathlib import Path

from django.db import migrations

SQL = (Path(__file__).resolve().parent.parent / "sql" / "queue.sql").read_text()

DROP = """
DROP FUNCTION queue_remove, queue_reap, queue_renew, queue_promote, queue_return, queue_release, queue_wake,
    queue_claim, queue_enqueue;
DROP SEQUENCE queueing_token_seq;
"""


class Migration(migrations.Migration):
    dependencies = [("queueing", "0001_initial")]

    operations = [
        migrations.RunSQL(SQL, DROP),
        migrations.RunSQL("INSERT INTO queueing_queuecontrol (id) VALUES (1)", migrations.RunSQL.noop),
        # Entries, locks and executions are updated in place: room on the page keeps updates that touch no index HOT.
        migrations.RunSQL(
            "ALTER TABLE queueing_queueentry SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);"
            "ALTER TABLE queueing_assetlock SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);",
            migrations.RunSQL.noop,
        ),
    ]
