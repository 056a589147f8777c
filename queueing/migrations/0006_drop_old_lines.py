"""The indexes that nothing reads any more."""

from django.contrib.postgres.operations import RemoveIndexConcurrently
from django.db import migrations


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("queueing", "0005_functions")]

    operations = [
        RemoveIndexConcurrently(model_name="queueentry", name="entry_ready"),
        RemoveIndexConcurrently(model_name="queueentry", name="entry_delayed"),
    ]
