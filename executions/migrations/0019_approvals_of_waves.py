"""Approvals of waves: a decision may be about one, and what waits says before which.

The ledger writes and loads both, and what was refused and is to be undone.
"""

from pathlib import Path

import django.contrib.postgres.fields
from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    dependencies = [("executions", "0018_time_of_cleanups")]

    operations = [
        migrations.AddField("approval", "wave", models.PositiveSmallIntegerField(db_default=0)),
        migrations.AddField(
            "pendingapproval",
            "waves",
            django.contrib.postgres.fields.ArrayField(
                base_field=models.PositiveSmallIntegerField(), blank=True, db_default=[], default=list, size=None
            ),
        ),
        migrations.RemoveConstraint("approval", "one_decision_per_approver_and_step"),
        migrations.AddConstraint(
            "approval",
            models.UniqueConstraint(
                condition=models.Q(("withdrawn_at__isnull", True)),
                fields=("execution", "step", "wave", "by"),
                name="one_decision_per_approver_and_point",
            ),
        ),
        migrations.RunSQL((SQL / "ledger.sql").read_text(), migrations.RunSQL.noop),
    ]
