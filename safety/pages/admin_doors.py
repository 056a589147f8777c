"""What Django's admin does by itself for whoever is signed in there, in the audit as everything else is."""

from __future__ import annotations

from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from safety import audit
from safety.models import User


def change_password(request: HttpRequest) -> HttpResponseBase:
    """The admin's page for one's own password."""
    with transaction.atomic():
        response = admin.site.password_change(request)
        if request.method == "POST" and response.status_code == 302:
            by = User.objects.get(username=request.user.get_username())
            audit.record("user.set_password", by=by, object_type="user", object_id=by.pk, object_name=by.username)
    return response
