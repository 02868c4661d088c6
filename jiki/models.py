"""Exercises, submissions and their results, batches and statistics; exports are in `export_models`."""

from collections.abc import Sequence

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxLengthValidator
from django.db import models, transaction
from django.urls import reverse
from django.utils import timezone

from jiki import courses as courses  # Django finds its models here
from jiki.export_models import DataExport as DataExport  # Django reads the models here
from jiki.export_models import DataExportFile as DataExportFile
from jiki.export_models import DataExportPart as DataExportPart
from jiki.sandbox import Report

CHECKS_LENGTH = 50_000  # characters


class Exercise(models.Model):
    """A programming exercise, with the checks of its solutions."""

    slug = models.SlugField(unique=True)
    title = models.CharField(max_length=100)
    text = models.TextField(help_text="What the learner is asked to do; Markdown.")
    starter = models.TextField(blank=True, help_text="The code that the form begins with.")
    checks = models.TextField(
        validators=[MaxLengthValidator(CHECKS_LENGTH)],
        help_text="Python: functions named check_..., which raise when the code is wrong. They see the learner's "
        "module as solution, and expect(solution.add, 1, 2, returns=3), which also takes prints= and raises=.",
    )
    position = models.PositiveSmallIntegerField(default=0, help_text="Its place in the list.")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("position", "title")

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return reverse("exercise", args=[self.slug])

    def clean(self) -> None:
        super().clean()
        try:
            compile(self.checks, "checks", "exec")
        except (SyntaxError, ValueError) as error:
            raise ValidationError({"checks": f"This is not valid Python: {error}."}) from None


class Submission(models.Model):
    """A learner's solution of an exercise, and its result."""

    class State(models.TextChoices):
        QUEUED = "queued", "queued"
        CHECKING = "checking", "being checked"
        PASSED = "passed", "passed"
        FAILED = "failed", "failed"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="submissions")
    exercise = models.ForeignKey(Exercise, on_delete=models.CASCADE, related_name="submissions")
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    message = models.TextField(blank=True, help_text="Why nothing could be checked: a syntax error, a limit.")
    job_id = models.CharField(max_length=64, blank=True, help_text="Of the job that checks it.")
    created_at = models.DateTimeField(default=timezone.now, db_index=True)
    checked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-created_at", "-pk")

    def __str__(self) -> str:
        return f"{self.exercise} by {self.user}"

    def get_absolute_url(self) -> str:
        return reverse("submission", args=[self.pk])

    def sources(self) -> dict[str, str]:
        """Return the contents of its files by path."""
        return {file.path: file.content for file in self.files.all()}

    @transaction.atomic
    def settle(self, report: Report) -> None:
        """Store the result of the checks in place of earlier ones; do nothing if the submission was deleted."""
        if not Submission.objects.select_for_update().filter(pk=self.pk).exists():
            return
        self.results.all().delete()
        CheckResult.objects.bulk_create(
            CheckResult(
                submission=self, position=position, name=result.name, passed=result.passed, message=result.message
            )
            for position, result in enumerate(report.results)
        )
        self.state = self.State.PASSED if report.passed else self.State.FAILED
        self.message, self.checked_at = report.message, timezone.now()
        self.save(update_fields=["state", "message", "checked_at"])

    def give_up(self) -> None:
        """Mark the submission as not checked, unless its checks have ended: no job will check it."""
        self.__class__.objects.filter(pk=self.pk, state__in=OPEN).update(state=self.State.FAILED, message=NOT_CHECKED)

    @property
    def is_open(self) -> bool:
        return self.state in OPEN


OPEN = (Submission.State.QUEUED, Submission.State.CHECKING)
NOT_CHECKED = "We could not check it, and that is our fault, not yours. Please submit it again."


class SubmissionFile(models.Model):
    """One file of a submission."""

    submission = models.ForeignKey(Submission, on_delete=models.CASCADE, related_name="files")
    path = models.CharField(max_length=200)
    content = models.TextField()

    class Meta:
        ordering = ("path",)
        constraints = [models.UniqueConstraint(fields=("submission", "path"), name="jiki_file_once")]

    def __str__(self) -> str:
        return self.path


class CheckResult(models.Model):
    """The result of one check of a submission."""

    submission = models.ForeignKey(Submission, on_delete=models.CASCADE, related_name="results")
    position = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=100)
    passed = models.BooleanField()
    message = models.TextField(blank=True)

    class Meta:
        ordering = ("position",)
        constraints = [models.UniqueConstraint(fields=("submission", "position"), name="jiki_result_once")]

    def __str__(self) -> str:
        return self.name


class Batch(models.Model):
    """A new check of all submissions that an exercise had when the batch began, slice by slice, by their keys."""

    class State(models.TextChoices):
        RUNNING = "running", "running"
        FINISHED = "finished", "finished"
        STOPPED = "stopped", "stopped"

    exercise = models.ForeignKey(Exercise, on_delete=models.CASCADE, related_name="batches")
    started_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    state = models.CharField(max_length=10, choices=State.choices, default=State.RUNNING)
    total = models.PositiveIntegerField(default=0, help_text="Submissions there were when it began.")
    done = models.PositiveIntegerField(default=0, help_text="Submissions checked so far.")
    passed = models.PositiveIntegerField(default=0, help_text="Those of them that passed.")
    reached = models.PositiveBigIntegerField(default=0, help_text="The key of the last submission checked.")
    last = models.PositiveBigIntegerField(default=0, help_text="The key of the last submission to check.")
    job_id = models.CharField(
        max_length=64,
        blank=True,
        default="",
        db_default="",  # so that the previous release can add rows during the rollout
        help_text="Of the job that checks what comes next.",
    )
    created_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-created_at", "-pk")
        verbose_name_plural = "batches"

    def __str__(self) -> str:
        return f"{self.exercise}, {self.created_at:%Y-%m-%d %H:%M}"

    def is_at(self, key: int) -> bool:
        """Return whether the next slice begins after this key."""
        return self.reached == key and self.state != self.State.FINISHED

    def after(self, key: int) -> models.QuerySet[Submission]:
        """Return the submissions after that key."""
        submissions = Submission.objects.filter(exercise_id=self.exercise_id, pk__gt=key, pk__lte=self.last)
        return submissions.prefetch_related("files")

    def goes_on(self, job_id: str) -> None:
        """Store the id of the job that continues the batch, unless it has advanced. Call it after the enqueue."""
        here = Batch.objects.filter(pk=self.pk, reached=self.reached).exclude(state=self.State.FINISHED)
        if here.update(job_id=job_id, state=self.State.RUNNING):
            self.job_id, self.state = job_id, self.State.RUNNING

    def advance(self, checked: Sequence[tuple[Submission, Report]], *, is_last: bool) -> None:
        """Store the results of a slice and the progress. Call it in one transaction, with a lock on the batch."""
        for submission, report in checked:
            submission.settle(report)
            self.done += 1
            self.passed += report.passed
            self.reached = submission.pk
        self.state = self.State.FINISHED if is_last else self.State.RUNNING
        self.ended_at = timezone.now() if is_last else None
        self.save(update_fields=["done", "passed", "reached", "state", "ended_at"])


class ExerciseStatistics(models.Model):
    """Statistics of one exercise; `jiki.RefreshStatistics` refreshes them."""

    exercise = models.OneToOneField(Exercise, on_delete=models.CASCADE, primary_key=True, related_name="statistics")
    learners = models.PositiveIntegerField(default=0, help_text="Who has submitted anything for it.")
    passed = models.PositiveIntegerField(default=0, help_text="Those of them who have passed.")
    submissions = models.PositiveIntegerField(default=0)
    refreshed_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "exercise statistics"

    def __str__(self) -> str:
        return f"statistics of {self.exercise}"

    @property
    def pass_rate(self) -> int | None:
        """The percentage of learners who have passed; None without learners."""
        return round(100 * self.passed / self.learners) if self.learners else None


class ExerciseSource(models.Model):
    """The validators (ETag, Last-Modified) of an exercise's texts, so that unchanged texts are not sent again."""

    exercise = models.OneToOneField(Exercise, on_delete=models.CASCADE, primary_key=True, related_name="source")
    etag = models.CharField(max_length=200, blank=True)
    last_modified = models.CharField(max_length=100, blank=True)
    fetched_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"source of {self.exercise}"


class ProgressOptOut(models.Model):
    """A learner who wants no progress mails."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="progress_opt_out"
    )
    since = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"no progress mails for {self.user}"
