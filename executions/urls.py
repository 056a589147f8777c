"""Where the pages are: executions under /executions/, approvals at /approvals/; / leads to the list."""

from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="executions:list"), name="home"),
    path("executions/", include("executions.pages.urls")),
    path("approvals/", include("executions.pages.approval_urls")),
]
