"""Where the pages are: executions under /executions/, sign-in at /login/; / leads to the list."""

from django.contrib.auth import views as auth
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="executions:list"), name="home"),
    path("login/", auth.LoginView.as_view(template_name="login.html", redirect_authenticated_user=True), name="login"),
    path("logout/", auth.LogoutView.as_view(), name="logout"),
    path("executions/", include("executions.pages.urls")),
]
