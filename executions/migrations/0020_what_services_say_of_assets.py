from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("executions", "0019_approvals_of_waves"),
    ]

    operations = [
        migrations.AddField(
            model_name="asset",
            name="additional_services",
            field=models.JSONField(blank=True, db_default=models.Value([], models.JSONField()), default=list),
        ),
        migrations.AddField(
            model_name="asset",
            name="credential_type",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="As its owner says; the credential decides.",
                max_length=30,
            ),
        ),
        migrations.AddField(
            model_name="asset",
            name="is_secure",
            field=models.BooleanField(
                blank=True, help_text="As its owner says; nothing here depends on it.", null=True
            ),
        ),
        migrations.AddField(
            model_name="asset",
            name="secondary_port",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="asset",
            name="secondary_service_type",
            field=models.CharField(blank=True, db_default="", default="", max_length=30),
        ),
    ]
