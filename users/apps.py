"""The app: on start-up it connects the receivers of `user_signed_up`."""

from django.apps import AppConfig


class UsersConfig(AppConfig):
    name = "users"
    verbose_name = "Users"

    def ready(self) -> None:
        from users import receivers  # noqa: F401
