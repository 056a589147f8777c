"""The queue's functions anew: an entry can come back with the attempts that it had (queueing/sql/queue.sql)."""

from pathlib import Path

from django.db import migrations

SQL = (Path(__file__).resolve().parent.parent / "sql" / "queue.sql").read_text()


class Migration(migrations.Migration):
    dependencies = [("queueing", "0008_cluster_draining")]

    operations = [migrations.RunSQL(SQL, migrations.RunSQL.noop)]
