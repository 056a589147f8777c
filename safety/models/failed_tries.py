"""How often somebody gave a wrong password or token lately: what slows guessing down."""

from __future__ import annotations

from django.db import models


class FailedTries(models.Model):
    """Tries of one kind that came to nothing. `digest` is of what they have in common: an account, an address, both."""

    digest = models.CharField(max_length=64, primary_key=True)
    kind = models.CharField(max_length=20)
    failures = models.PositiveIntegerField()
    last_at = models.DateTimeField()
    wait_until = models.DateTimeField()
    proved_at = models.DateTimeField(null=True)  # when this account last signed in from this address

    class Meta:
        verbose_name_plural = "failed tries"
        indexes = [models.Index(fields=["last_at"], name="failed_tries_last")]

    def __str__(self) -> str:
        return f"{self.failures} of {self.kind}"
