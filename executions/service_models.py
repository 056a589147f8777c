"""How processes find the services that they ask, and what they asked of them in all."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now


class ServiceStanding(models.Model):
    """The breaker of one process for one service, as that process last told of it."""

    service = models.CharField(max_length=20)
    process = models.CharField(max_length=200)
    state = models.CharField(max_length=9)
    failures = models.PositiveIntegerField(help_text="In a row, up to now.")
    reason = models.TextField(blank=True, help_text="Of the last failure.")
    changed_at = models.DateTimeField(db_default=Now(), help_text="Since when the breaker is in this state.")
    reported_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = (models.UniqueConstraint(fields=["service", "process"], name="service_standing_once"),)

    def __str__(self) -> str:
        return f"{self.service} service from {self.process}"


class ServiceTraffic(models.Model):
    """Requests to a service that ended in one way, of all processes there ever were. It only grows."""

    service = models.CharField(max_length=20)
    outcome = models.CharField(max_length=20)
    requests = models.BigIntegerField(default=0)
    retried = models.BigIntegerField(default=0, help_text="Those that were followed by another try.")
    seconds = models.FloatField(default=0)
    buckets = ArrayField(models.BigIntegerField(), default=list, help_text="By duration; see clients/traffic.py.")

    class Meta:
        constraints = (models.UniqueConstraint(fields=["service", "outcome"], name="service_traffic_once"),)

    def __str__(self) -> str:
        return f"{self.service} service: {self.outcome}"
