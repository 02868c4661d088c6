"""The addresses of the account pages."""

from django.contrib.auth.views import LogoutView
from django.urls import path, re_path

from users import views

app_name = "users"
urlpatterns = [
    path("signup/", views.Signup.as_view(), name="signup"),
    path("signup/done/", views.SignedUp.as_view(), name="signed_up"),
    # Mails link to `/login`, which is served without a redirect.
    re_path(r"^login/?$", views.Login.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("password-reset/", views.PasswordReset.as_view(), name="password_reset"),
    path("password-reset/sent/", views.PasswordResetDone.as_view(), name="password_reset_done"),
    path("password-reset/done/", views.PasswordResetComplete.as_view(), name="password_reset_complete"),
    path(
        "password-reset/<uidb64>/<token>/",
        views.PasswordResetConfirm.as_view(),
        name="password_reset_confirm",
    ),
]
