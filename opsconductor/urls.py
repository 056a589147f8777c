"""Where everything is."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView

from safety.pages.sign_in import AdminSignIn, SignOut

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/login/", AdminSignIn.as_view()),  # one way in for all pages: `admin:login` leads here
    path("admin/logout/", SignOut.as_view()),
    # One page for one's password, which slows down guessing and ends the other sessions: the admin's would do neither.
    path("admin/password_change/", admin.site.admin_view(RedirectView.as_view(pattern_name="password"))),
    path("admin/", admin.site.urls),
    path("api/", include("executions.api.urls")),
    path("", include("monitoring.urls")),
    path("", include("safety.pages.urls")),
    path("", include("executions.urls")),
]

handler400 = "opsconductor.error_pages.bad_request"
handler403 = "opsconductor.error_pages.forbidden"
handler404 = "opsconductor.error_pages.not_found"
handler500 = "opsconductor.error_pages.server_error"
