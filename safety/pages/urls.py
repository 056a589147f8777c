"""Signing in and out."""

from django.urls import path

from safety.pages import sign_in, sso

urlpatterns = [
    path("login/", sign_in.SignIn.as_view(), name="login"),
    path("login/sso/", sso.begin, name="sso_begin"),
    path("login/sso/back/", sso.back, name="sso_back"),
    path("login/sso/end/", sso.end, name="sso_end"),
    path("logout/", sign_in.SignOut.as_view(), name="logout"),
]
