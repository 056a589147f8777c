"""Where everything is."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    path("api/", include("executions.api.urls")),
    path("", include("monitoring.urls")),
    path("", include("executions.urls")),
]
