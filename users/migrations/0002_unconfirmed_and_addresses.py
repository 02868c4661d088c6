"""Accounts that wait for their confirmation, and international domains in their ASCII form."""

from typing import Any

from django.db import migrations, models

from mailers.addresses import normalized


def normalize(apps: Any, schema_editor: Any) -> None:
    """Store each address as it is looked up now. If two accounts have one mailbox, the older one keeps it."""
    users = apps.get_model("users", "User").objects.using(schema_editor.connection.alias).order_by("pk")
    for user in users.iterator():
        email = normalized(user.email)
        if email != user.email and not users.filter(email__iexact=email).exclude(pk=user.pk).exists():
            users.filter(pk=user.pk).update(email=email)


class Migration(migrations.Migration):
    dependencies = [("users", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="user",
            name="is_unconfirmed",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="Signed up, and has not followed the mailed link yet: nobody can log in to it until then.",
                verbose_name="unconfirmed",
            ),
        ),
        migrations.RunPython(normalize, migrations.RunPython.noop),
    ]
