import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    """The receipts of atomic commands."""

    dependencies = [("jobs", "0005_unsent")]

    operations = [
        migrations.CreateModel(
            name="Receipt",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("other_id", models.BinaryField(null=True)),
                ("result", models.BinaryField(null=True)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("forgotten_at", models.DateTimeField(null=True)),
            ],
            options={"default_permissions": ()},
        ),
    ]
