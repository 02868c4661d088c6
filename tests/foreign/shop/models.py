import uuid

from django.db import models


class Order(models.Model):
    number = models.CharField(max_length=20)
    due = models.DateTimeField(null=True)
    shipped = models.BooleanField(default=False)

    def __str__(self):
        return self.number


class Parcel(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)


class Line(models.Model):
    pk = models.CompositePrimaryKey("parcel", "number")
    parcel = models.ForeignKey(Parcel, models.CASCADE)
    number = models.IntegerField()
    is_packed = models.BooleanField(default=False)
