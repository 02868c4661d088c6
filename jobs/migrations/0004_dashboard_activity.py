from django.db import migrations


class Migration(migrations.Migration):
    """No SQL: the model has no table; a permission is added."""

    dependencies = [("jobs", "0003_dashboard_without_rows")]

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
                    ("view_activity", "Can view who changed what"),
                ],
                "verbose_name": "dashboard",
                "verbose_name_plural": "dashboard",
            },
        ),
    ]
