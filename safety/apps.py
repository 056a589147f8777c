from django.apps import AppConfig
from django.db.models.signals import post_migrate


class SafetyConfig(AppConfig):
    name = "safety"
    verbose_name = "Safety"

    def ready(self) -> None:
        from safety.audit.database_role import grant_configured

        post_migrate.connect(grant_configured, sender=self, dispatch_uid="safety.grant_configured")
