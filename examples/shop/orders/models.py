from django.contrib.auth.models import AbstractUser
from django.db import models


class User(AbstractUser):
    """A customer."""


class Order(models.Model):
    """What a customer wants, until it is paid, or cancelled."""

    class State(models.TextChoices):
        OPEN = "open"
        PAID = "paid"
        CANCELLED = "cancelled"

    customer = models.ForeignKey(User, on_delete=models.CASCADE)
    item = models.CharField(max_length=100)
    state = models.CharField(max_length=10, choices=State, default=State.OPEN)
    placed_at = models.DateTimeField(auto_now_add=True)
    receipt_sent_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.item} for {self.customer}"
