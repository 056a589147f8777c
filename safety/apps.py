import os

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import Tags, register
from django.db.models.signals import post_migrate


class SafetyConfig(AppConfig):
    name = "safety"
    verbose_name = "Safety"

    def ready(self) -> None:
        from safety.audit.database_role import grant_configured
        from safety.masking import known, logs
        from safety.masking.checks import check_sinks
        from safety.masking.own import own_secrets

        known.set_own(own_secrets(settings, os.environ))
        logs.install()
        register(check_sinks, Tags.security)
        post_migrate.connect(grant_configured, sender=self, dispatch_uid="safety.grant_configured")
