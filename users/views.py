"""
The account pages. Signing up does not log in, nor can anybody before the mailed link was followed: both would reveal
whether the address was new.
"""

from typing import Any
from urllib.parse import urlsplit

from django.contrib.auth import forms as auth_forms
from django.contrib.auth import views as auth_views
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse, reverse_lazy
from django.views.generic import FormView, TemplateView

from users import throttle
from users.commands.sign_up import SignUp
from users.forms import LoginForm, PasswordResetForm, SignupForm
from users.models import User

SIGNUP_RATE = "10/h"  # for each address; a class behind one address can still sign up within a few lessons
RESET_RATE = "10/h"


class Signup(FormView):  # type: ignore[type-arg]
    """The sign-up form."""

    template_name = "users/signup.html"
    form_class = SignupForm
    success_url = reverse_lazy("users:signed_up")

    def dispatch(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        if request.user.is_authenticated:
            return redirect("home")
        return super().dispatch(request, *args, **kwargs)

    def form_valid(self, form: SignupForm) -> HttpResponse:
        if wait := throttle.seconds_to_wait(self.request, "signup", SIGNUP_RATE):
            return _too_many(self.request, wait)
        SignUp.run(form.cleaned_data["email"], form.cleaned_data["password"])
        return super().form_valid(form)


class SignedUp(TemplateView):
    """The page after a sign-up, the same for new and known addresses."""

    template_name = "users/signed_up.html"


class Login(auth_views.LoginView):
    template_name = "users/login.html"
    authentication_form = LoginForm
    redirect_authenticated_user = True

    def get_redirect_url(self, request: HttpRequest | None = None) -> str:
        """Return the page to go to after the login; "" if it would be the login again."""
        url = super().get_redirect_url()
        return "" if urlsplit(url).path.rstrip("/") == reverse("users:login") else url


class PasswordReset(auth_views.PasswordResetView):
    """The form that asks for the address to which the link is mailed."""

    template_name = "users/password_reset.html"
    form_class = PasswordResetForm
    success_url = reverse_lazy("users:password_reset_done")

    def form_valid(self, form: auth_forms.PasswordResetForm) -> HttpResponse:
        if wait := throttle.seconds_to_wait(self.request, "password reset", RESET_RATE):
            return _too_many(self.request, wait)
        return super().form_valid(form)


class PasswordResetDone(auth_views.PasswordResetDoneView):
    template_name = "users/password_reset_done.html"


class PasswordResetConfirm(auth_views.PasswordResetConfirmView):
    template_name = "users/password_reset_confirm.html"
    success_url = reverse_lazy("users:password_reset_complete")

    def form_valid(self, form: Any) -> HttpResponse:
        """
        Save the password, once for each link: the user is locked, and the token checked again. The link was mailed, so
        it confirms the account, too.
        """
        with transaction.atomic():
            user = User.objects.select_for_update().get(pk=form.user.pk)
            token = self.request.session[auth_views.INTERNAL_RESET_SESSION_TOKEN]
            if not self.token_generator.check_token(user, token):
                self.validlink = False
                return self.render_to_response(self.get_context_data())
            user.is_unconfirmed = False
            form.user = user
            return super().form_valid(form)


class PasswordResetComplete(auth_views.PasswordResetCompleteView):
    template_name = "users/password_reset_complete.html"


def _too_many(request: HttpRequest, wait: int) -> HttpResponse:
    page = render(request, "users/too_many.html", {"minutes": -(-wait // 60)}, status=429)
    page["Retry-After"] = str(wait)
    return page
