"""Assets that mirror an asset service get ids of their own range: in a plan, a small number may be the service's."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("executions", "0013_assets_of_sources_and_their_health")]

    operations = [
        migrations.RunSQL(
            "CREATE SEQUENCE executions_mirrored_asset_id AS bigint START WITH 1000000001",
            "DROP SEQUENCE executions_mirrored_asset_id",
        ),
    ]
