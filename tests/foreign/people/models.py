"""A user without Django's fields for names and rights: a UUID, a mail address, and a right to everything or nothing."""

import uuid

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models


class People(BaseUserManager["Person"]):
    def create_superuser(self, email, password):
        person = self.model(email=email, is_superuser=True)
        person.set_password(password)
        person.save()
        return person


class Person(AbstractBaseUser):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    email = models.EmailField(unique=True)
    is_superuser = models.BooleanField(default=False)
    USERNAME_FIELD = EMAIL_FIELD = "email"
    objects = People()

    @property
    def is_staff(self):
        return self.is_superuser

    def has_perm(self, perm, obj=None):
        return self.is_superuser

    def has_module_perms(self, app_label):
        return self.is_superuser
