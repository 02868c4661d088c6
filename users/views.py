"""The account pages. Signing up does not log in: that would reveal whether the address was new."""

from django.contrib.auth import forms as auth_forms
from django.contrib.auth import views as auth_views
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse_lazy
from django.views.generic import FormView, TemplateView

from users import throttle
from users.commands.sign_up import SignUp
from users.forms import LoginForm, PasswordResetForm, SignupForm

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


class PasswordResetComplete(auth_views.PasswordResetCompleteView):
    template_name = "users/password_reset_complete.html"


def _too_many(request: HttpRequest, wait: int) -> HttpResponse:
    page = render(request, "users/too_many.html", {"minutes": -(-wait // 60)}, status=429)
    page["Retry-After"] = str(wait)
    return page
