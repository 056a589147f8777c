"""The sign-in page, and the way out."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView, LogoutView
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse

from safety import sign_in
from safety.guessing import MustWait
from safety.models import User


class SignInForm(AuthenticationForm):
    """User name and password. What is wrong is never said more exactly than this."""

    def get_invalid_login_error(self) -> ValidationError:
        wait: MustWait | None = getattr(self.request, "must_wait", None)
        if wait is not None:
            return ValidationError(f"{wait} Nothing was checked.", code="must_wait")
        return ValidationError(
            "That user name and password do not belong together, or the account is closed.", code="invalid_login"
        )


class SignIn(LoginView):
    """Sign-in with a password. `next` leads to pages of ours alone (Django checks it)."""

    template_name = "login.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        more = {"sso": settings.OIDC, "signed_out": self.request.GET.get("signed_out") == sign_in.SSO}
        return super().get_context_data(**kwargs, **more)

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        user = form.get_user()
        assert isinstance(user, User)
        sign_in.sign_in(self.request, user, method=sign_in.PASSWORD)
        return redirect(self.get_success_url())

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        response = super().form_invalid(form)
        wait: MustWait | None = getattr(self.request, "must_wait", None)
        if wait is not None:
            response.status_code = 429
            response.headers["Retry-After"] = str(wait.seconds)
        return response


class AdminSignIn(SignIn):
    """The same page for the admin. Who is signed in already and yet is led here may not go there."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.user.is_authenticated and not request.user.is_staff:
            messages.error(request, "The admin pages are for operators and administrators.")
            return redirect("executions:list")
        return super().dispatch(request, *args, **kwargs)

    def get_default_redirect_url(self) -> str:
        return reverse("admin:index")


class SignOut(LogoutView):
    """Signing out, by POST alone."""

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        ended = sign_in.sign_out(request)
        return redirect(f"{reverse('login')}?signed_out=sso" if ended == sign_in.SSO else "login")
