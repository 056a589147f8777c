"""Addresses of the pages on approvals, under /approvals/."""

from django.urls import path

from executions.pages import approvals

app_name = "approvals"

urlpatterns = [
    path("", approvals.approvals, name="list"),
    path("badge/", approvals.badge, name="badge"),
]
