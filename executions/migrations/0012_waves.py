"""Steps know their waves; intake writes them, and the engine is given the error codes by which it judges gates."""

from pathlib import Path

import django.contrib.postgres.fields
from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    dependencies = [("executions", "0011_asset_external_id_once")]

    operations = [
        migrations.AddField(
            "step",
            "waves",
            django.contrib.postgres.fields.ArrayField(
                base_field=models.PositiveIntegerField(),
                null=True,
                blank=True,
                editable=False,
                size=None,
                help_text="How many targets each wave has, by position; null when all go as one.",
            ),
        ),
        migrations.RunSQL((SQL / "intake.sql").read_text(), migrations.RunSQL.noop),
        migrations.RunSQL((SQL / "ledger.sql").read_text(), migrations.RunSQL.noop),
    ]
