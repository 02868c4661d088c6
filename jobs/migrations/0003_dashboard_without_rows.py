from django.db import migrations


class Migration(migrations.Migration):
    """No SQL: the model has no table, and its manager finds nothing."""

    dependencies = [("jobs", "0002_dashboard_permissions")]

    operations = [
        migrations.AlterModelOptions(
            name="dashboard",
            options={
                "base_manager_name": "objects",
                "default_permissions": ("view",),
                "managed": False,
                "permissions": [
                    ("retry_job", "Can retry jobs and run them now"),
                    ("delete_job", "Can delete jobs"),
                    ("cancel_job", "Can cancel and interrupt jobs"),
                    ("pause_queue", "Can pause queues and recurring entries"),
                    ("control_workers", "Can quiet and stop workers"),
                    ("view_payloads", "Can view raw payloads"),
                ],
                "verbose_name": "dashboard",
                "verbose_name_plural": "dashboard",
            },
        ),
    ]
