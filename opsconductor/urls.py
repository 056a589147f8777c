"""Where everything is."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from safety.pages.sign_in import AdminSignIn

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/login/", AdminSignIn.as_view()),  # one way in for all pages: `admin:login` leads here
    path("admin/", admin.site.urls),
    path("api/", include("executions.api.urls")),
    path("", include("monitoring.urls")),
    path("", include("safety.pages.urls")),
    path("", include("executions.urls")),
]
