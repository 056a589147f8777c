"""The masking rules: a row for each built-in pattern, to be switched there, and those of the installation's own."""

from typing import Any

import django.db.models.functions.datetime
from django.db import migrations, models

ON = (
    "password", "api_key", "header_token", "aws_access_key_id", "aws_secret_key", "private_key", "ssh_public_key",
    "url_password", "email", "card_number", "us_ssn", "generic_secret", "jwt", "github_token", "gitlab_token",
    "slack_token", "google_key", "stripe_key", "vendor_token", "sshpass", "mysql_password", "curl_user",
    "command_password",
)  # fmt: skip
OFF = ("ip_address",)


def make_rules(apps: Any, schema_editor: Any) -> None:
    rules = apps.get_model("safety", "MaskingRule").objects
    for name in (*ON, *OFF):
        rules.get_or_create(name=name, defaults={"enabled": name in ON})


class Migration(migrations.Migration):
    dependencies = [("safety", "0008_external_identities")]

    operations = [
        migrations.CreateModel(
            name="MaskingRule",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "name",
                    models.SlugField(help_text="Letters, digits, hyphens, underscores.", max_length=60, unique=True),
                ),
                (
                    "enabled",
                    models.BooleanField(
                        default=True, help_text="Holds within seconds, for everything that is written then."
                    ),
                ),
                (
                    "expression",
                    models.TextField(
                        blank=True,
                        help_text="In RE2's syntax. What it matches is masked; with a group in parentheses, only that.",
                        max_length=2000,
                    ),
                ),
                ("description", models.CharField(blank=True, max_length=300)),
                (
                    "changed_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
            ],
            options={"ordering": ("name",)},
        ),
        migrations.RunPython(make_rules, migrations.RunPython.noop),
    ]
