"""Who somebody is at the provider they sign in at."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class ExternalIdentity(models.Model):
    """A person at an issuer. The pair of issuer and subject is theirs for good; names and addresses are not."""

    user = models.OneToOneField("safety.User", on_delete=models.CASCADE, related_name="external_identity")
    issuer = models.CharField(max_length=500)
    subject = models.CharField(max_length=255)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name_plural = "external identities"
        constraints = [models.UniqueConstraint(fields=["issuer", "subject"], name="one_user_per_identity")]

    def __str__(self) -> str:
        return f"{self.subject} at {self.issuer}"
