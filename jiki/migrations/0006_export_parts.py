import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("jiki", "0005_courses"),
    ]

    operations = [
        migrations.CreateModel(
            name="DataExportPart",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("submission_id", models.BigIntegerField()),
                ("files", models.JSONField(help_text="Pairs of path and text.")),
                (
                    "export",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="parts", to="jiki.dataexport"
                    ),
                ),
            ],
            options={
                "ordering": ("submission_id",),
                "constraints": [
                    models.UniqueConstraint(fields=("export", "submission_id"), name="jiki_part_once"),
                ],
            },
        ),
    ]
