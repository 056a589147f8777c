"""Which patterns the log masker looks for: the built-in ones, on or off, and those of the installation."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Now

from safety.masking.custom import Unusable, check_expression
from safety.masking.patterns import BY_NAME


class MaskingRule(models.Model):
    """One pattern. A built-in one is known by its name and has no expression here; a built-in one without a row is on
    or off as it was written."""

    name = models.SlugField(max_length=60, unique=True, help_text="Letters, digits, hyphens, underscores.")
    enabled = models.BooleanField(default=True, help_text="Holds within seconds, for everything that is written then.")
    expression = models.TextField(
        max_length=2000,
        blank=True,
        help_text="In RE2's syntax. What it matches is masked; with a group in parentheses, only that.",
    )
    description = models.CharField(max_length=300, blank=True)
    changed_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name

    @property
    def is_built_in(self) -> bool:
        return self.name in BY_NAME

    def clean(self) -> None:
        """Raises ValidationError for an expression that cannot be used, or would mask everything."""
        if self.is_built_in:
            self.expression = ""
            return
        try:
            check_expression(self.expression)
        except Unusable as problem:
            raise ValidationError({"expression": str(problem)}) from None
