"""A reason more why an execution is in the DLQ. The column is as it was."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("queueing", "0009_entries_that_come_back")]

    operations = [
        migrations.AlterField(
            model_name="deadletter",
            name="reason",
            field=models.CharField(
                choices=[
                    ("outcome_unknown", "Outcome Unknown"),
                    ("rollback_failed", "Rollback Failed"),
                    ("attempts_exhausted", "Attempts Exhausted"),
                    ("engine_error", "Engine Error"),
                ],
                max_length=30,
            ),
        ),
    ]
