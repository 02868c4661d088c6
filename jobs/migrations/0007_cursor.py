import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    """How far atomic loops have come."""

    dependencies = [("jobs", "0006_receipt")]

    operations = [
        migrations.CreateModel(
            name="Cursor",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("other_id", models.BinaryField()),
                ("step", models.CharField(max_length=100)),
                ("cursor", models.BinaryField(null=True)),
                ("done", models.BigIntegerField(default=0)),
                ("version", models.BigIntegerField(default=0)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("forgotten_at", models.DateTimeField(null=True)),
            ],
            options={"default_permissions": ()},
        ),
    ]
