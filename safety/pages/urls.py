"""Signing in and out, and one's own account."""

from django.urls import path

from safety.pages import account, sign_in, sso

urlpatterns = [
    path("login/", sign_in.SignIn.as_view(), name="login"),
    path("login/sso/", sso.begin, name="sso_begin"),
    path("login/sso/back/", sso.back, name="sso_back"),
    path("login/sso/end/", sso.end, name="sso_end"),
    path("account/", account.account, name="account"),
    path("account/sessions/end/", account.end_session, name="end_session"),
    path("account/password/", account.password, name="password"),
    path("account/tokens/", account.tokens, name="tokens"),
    path("account/tokens/<int:token_id>/revoke/", account.revoke_token, name="revoke_token"),
    path("logout/", sign_in.SignOut.as_view(), name="logout"),
]
