"""Which refusals of people who are not signed in are in the audit already: of each kind one in a while."""

from __future__ import annotations

from django.db import models


class StrangerRefusals(models.Model):
    """What one network was refused by one code. One record of it was written when the window began.

    `left_out` counts the refusals since then, `left_out_before` those of the window before.
    """

    digest = models.CharField(max_length=64, primary_key=True)  # of network, action and code
    until = models.DateTimeField()
    left_out = models.PositiveBigIntegerField(default=0)
    left_out_before = models.PositiveBigIntegerField(default=0)

    class Meta:
        verbose_name_plural = "stranger refusals"
        indexes = [models.Index(fields=["until"], name="stranger_refusals_until")]

    def __str__(self) -> str:
        return f"{self.left_out} left out until {self.until}"
