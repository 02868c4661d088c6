"""Courses and their lessons; `jiki.models` shows them to Django."""

from django.db import models
from django.urls import reverse


class Course(models.Model):
    """A course: lessons in an order, which come from the content service."""

    slug = models.SlugField(unique=True, help_text="Its name in the content service.")
    title = models.CharField(max_length=200, blank=True)
    flow_id = models.CharField(max_length=64, blank=True, editable=False, help_text="The flow that imports it.")
    job_id = models.CharField(max_length=64, blank=True, editable=False, help_text="The last step of that flow.")
    published_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ("slug",)

    def __str__(self) -> str:
        return self.title or self.slug

    def get_absolute_url(self) -> str:
        return reverse("course", args=[self.slug])


class Lesson(models.Model):
    """A lesson of a course. Without a text until it has been imported."""

    course = models.ForeignKey(Course, on_delete=models.CASCADE, related_name="lessons")
    slug = models.SlugField()
    position = models.PositiveSmallIntegerField()
    title = models.CharField(max_length=200, blank=True)
    text = models.TextField(blank=True)

    class Meta:
        ordering = ("position",)
        constraints = [models.UniqueConstraint(fields=("course", "slug"), name="jiki_lesson_once")]

    def __str__(self) -> str:
        return self.title or self.slug
