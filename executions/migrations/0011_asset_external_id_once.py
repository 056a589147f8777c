"""An id of the asset service stands for one asset of a tenant: what mirrors the service finds its own row by it.

Where two assets have the same one so far, the older keeps it.
"""

from django.db import migrations, models

ONCE = """
UPDATE executions_asset a SET external_id = ''
 WHERE external_id <> '' AND EXISTS (
       SELECT 1 FROM executions_asset b
        WHERE b.tenant_id = a.tenant_id AND b.external_id = a.external_id AND b.id < a.id)
"""


class Migration(migrations.Migration):
    dependencies = [("executions", "0010_connections_of_added_connectors")]

    operations = [
        migrations.RunSQL(ONCE, migrations.RunSQL.noop),
        migrations.AddConstraint(
            model_name="asset",
            constraint=models.UniqueConstraint(
                condition=models.Q(("external_id", ""), _negated=True),
                fields=("tenant", "external_id"),
                name="asset_external_id_once_per_tenant",
            ),
        ),
    ]
