from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("jiki", "0003_batch_job"),
    ]

    operations = [
        migrations.AddField(
            model_name="dataexport",
            name="job_id",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="Of the job that prepares it.",
                max_length=64,
            ),
        ),
    ]
