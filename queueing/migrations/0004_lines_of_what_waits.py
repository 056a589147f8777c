"""The index of every claim, now by pool, region and tenant; built beside live work."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("queueing", "0003_labels_and_clusters")]

    operations = [
        AddIndexConcurrently(
            model_name="deadletter",
            index=models.Index(
                condition=models.Q(("state", "open")),
                fields=["tenant_id", "reason", "fingerprint", "id"],
                name="dead_letter_open",
            ),
        ),
        AddIndexConcurrently(
            model_name="queueentry",
            index=models.Index(
                condition=models.Q(("losses", 0), ("state", "ready")),
                fields=["pool", "region", "tenant_id", "place", "execution_id"],
                name="entry_line",
            ),
        ),
        AddIndexConcurrently(
            model_name="queueentry",
            index=models.Index(
                condition=models.Q(("losses__gt", 0), ("state", "ready")), fields=["place"], name="entry_suspect"
            ),
        ),
        AddIndexConcurrently(
            model_name="queueentry",
            index=models.Index(
                condition=models.Q(("state", "leased"), _negated=True),
                fields=["state", "available_at"],
                name="entry_waiting",
            ),
        ),
    ]
