"""What learners work on: exercises, and what they submit for them."""

from django.conf import settings
from django.db import models
from django.utils import timezone


class Exercise(models.Model):
    """Something to program, and the checks that tell whether a program does it."""

    slug = models.SlugField(unique=True)
    title = models.CharField(max_length=100)
    text = models.TextField(help_text="What the learner is asked to do; Markdown.")
    starter = models.TextField(blank=True, help_text="The code that the form begins with.")
    checks = models.TextField(help_text="Python: functions named check_..., which raise when the code is wrong.")
    position = models.PositiveSmallIntegerField(default=0, help_text="Its place in the list.")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("position", "title")

    def __str__(self) -> str:
        return self.title


class Submission(models.Model):
    """What one learner sent in for one exercise, and what became of it."""

    class State(models.TextChoices):
        QUEUED = "queued", "queued"
        CHECKING = "checking", "being checked"
        PASSED = "passed", "passed"
        FAILED = "failed", "failed"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="submissions")
    exercise = models.ForeignKey(Exercise, on_delete=models.CASCADE, related_name="submissions")
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    message = models.TextField(blank=True, help_text="Why nothing could be checked: a syntax error, a limit.")
    created_at = models.DateTimeField(default=timezone.now, db_index=True)
    checked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-created_at", "-pk")

    def __str__(self) -> str:
        return f"{self.exercise} by {self.user}"

    @property
    def is_open(self) -> bool:
        """Whether its checks have not ended yet."""
        return self.state in (self.State.QUEUED, self.State.CHECKING)


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
    """What one check said about a submission."""

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
