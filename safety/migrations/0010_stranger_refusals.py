"""What strangers were refused and is in the audit already, so that it is not written again each time."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("safety", "0009_masking_rules")]

    operations = [
        migrations.CreateModel(
            name="StrangerRefusals",
            fields=[
                ("digest", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("until", models.DateTimeField()),
                ("left_out", models.PositiveBigIntegerField(default=0)),
                ("left_out_before", models.PositiveBigIntegerField(default=0)),
            ],
            options={
                "verbose_name_plural": "stranger refusals",
                "indexes": [models.Index(fields=["until"], name="stranger_refusals_until")],
            },
        ),
    ]
