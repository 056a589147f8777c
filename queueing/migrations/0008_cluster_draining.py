"""A drain of a host is one of its clusters, too: workers that they start meanwhile drain as well."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("queueing", "0007_dead_letter_batches")]

    operations = [
        migrations.AddField(
            model_name="cluster",
            name="draining",
            field=models.BooleanField(
                db_default=False, help_text="Its host was drained: every worker that it starts drains as well."
            ),
        ),
    ]
