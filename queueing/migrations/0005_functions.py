"""The queue's functions anew: labels, fair shares, suspects, attempts that are kept (queueing/sql/queue.sql)."""

from pathlib import Path

from django.db import migrations

SQL = (Path(__file__).resolve().parent.parent / "sql" / "queue.sql").read_text()

# Other parameters make another function: the old ones would stay beside the new.
REPLACED = """
DROP FUNCTION IF EXISTS queue_claim(bigint, integer, interval);
DROP FUNCTION IF EXISTS queue_renew(bigint, bigint[], interval, integer, bigint, bigint);
"""


class Migration(migrations.Migration):
    dependencies = [("queueing", "0004_lines_of_what_waits")]

    operations = [migrations.RunSQL(REPLACED + SQL, migrations.RunSQL.noop)]
