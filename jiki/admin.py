"""Exercises, submissions and batches in the admin."""

from typing import Any, cast

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html

from jiki import lost
from jiki.commands.import_course import ImportCourse
from jiki.commands.process_submission import ProcessSubmission
from jiki.commands.recheck_batch import RecheckBatch
from jiki.commands.start_batch import StartBatch
from jiki.courses import Course, Lesson
from jiki.models import Batch, CheckResult, Exercise, Submission, SubmissionFile
from jiki.tasks import renew_listing
from jobs.errors import JobsError
from users.models import User


class ReadOnly:
    """Mixin for records of the past: they can be viewed and deleted, but not added or changed."""

    def has_add_permission(self, *args: Any) -> bool:
        return False

    def has_change_permission(self, *args: Any) -> bool:
        return False


@admin.register(Exercise)
class ExerciseAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("title", "slug", "position", "updated_at")
    search_fields = ("title", "slug", "text")
    prepopulated_fields = {"slug": ("title",)}
    actions = ("check_again",)

    def save_model(self, request: HttpRequest, *args: Any) -> None:
        super().save_model(request, *args)
        renew_listing()

    def delete_model(self, request: HttpRequest, *args: Any) -> None:
        super().delete_model(request, *args)
        renew_listing()

    def delete_queryset(self, request: HttpRequest, *args: Any) -> None:
        super().delete_queryset(request, *args)
        renew_listing()

    def has_check_again_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("jiki.add_batch")

    @admin.action(description="Check all submissions again", permissions=["check_again"])
    def check_again(self, request: HttpRequest, exercises: QuerySet[Exercise]) -> None:
        for exercise in exercises:
            try:
                batch = StartBatch.run(exercise, cast(User, request.user))
            except JobsError as error:
                self.message_user(request, f"{exercise}: {error}", messages.ERROR)
                continue
            progress = reverse("admin:jiki_batch_changelist")
            text = 'Submissions of “{}” to check again: {}. <a href="{}">Progress</a>'
            self.message_user(request, format_html(text, exercise, batch.total, progress))


class Lessons(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    model = Lesson
    fields = ("position", "title", "slug")
    extra = 0


@admin.register(Course)
class CourseAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("slug", "title", "published_at")
    fields = ("slug", "title")
    inlines = (Lessons,)
    actions = ("import_courses",)

    @admin.action(description="Import from the content service", permissions=["change"])
    def import_courses(self, request: HttpRequest, courses: QuerySet[Course]) -> None:
        for course in courses:
            try:
                flow = ImportCourse.run(course, cast(User, request.user))
            except JobsError as error:
                self.message_user(request, f"{course}: {error}", messages.ERROR)
                continue
            text = '“{}” is being imported{}. <a href="{}">Progress</a>'
            page, already = reverse("admin:jobs_batch", args=[flow.id]), " already" if flow.duplicate else ""
            self.message_user(request, format_html(text, course, already, page))


class Files(ReadOnly, admin.StackedInline):  # type: ignore[type-arg]
    model = SubmissionFile
    extra = 0


class Results(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    model = CheckResult
    extra = 0


@admin.register(Submission)
class SubmissionAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("created_at", "user", "exercise", "state", "checked_at")
    list_filter = ("state", "exercise")
    list_select_related = ("user", "exercise")
    search_fields = ("user__email", "exercise__title")
    inlines = (Results, Files)
    view_on_site = False  # only the learner sees that page
    actions = ("check_again",)

    def has_check_again_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("jiki.change_submission")

    @admin.action(description="Check again", permissions=["check_again"])
    def check_again(self, request: HttpRequest, submissions: QuerySet[Submission]) -> None:
        jobs = ProcessSubmission.defer_many([(pk,) for pk in submissions.values_list("pk", flat=True)])
        self.message_user(request, f"Submissions to check again: {len(jobs)}.")


@admin.register(Batch)
class BatchAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("created_at", "exercise", "started_by", "state_now", "progress", "passed", "ended_at")
    list_filter = ("state", "exercise")
    list_select_related = ("exercise", "started_by")
    actions = ("go_on",)

    fields = ("exercise", "started_by", "state_now", "progress", "passed", "created_at", "ended_at")

    @admin.display(description="state", ordering="state")
    def state_now(self, batch: Batch) -> str:
        """Show the stored state, or the state of the batch's job if that has ended without notifying the batch."""
        if not (why := self._why_stopped(batch)):
            return batch.get_state_display()
        if why == "gone":
            return "stopped: its job is gone"
        page = reverse("admin:jobs_job", args=[batch.job_id])
        return format_html('stopped: <a href="{}">its job</a> is {}', page, why)

    def _why_stopped(self, batch: Batch) -> str:
        has_job = batch.state != Batch.State.FINISHED and batch.job_id
        return lost.why(batch.job_id) if has_job else ""

    @admin.display(description="progress")
    def progress(self, batch: Batch) -> str:
        return f"{batch.done} of {batch.total} ({100 * batch.done // batch.total if batch.total else 100} %)"

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        batch = self.get_object(request, object_id)
        has_stopped = batch is not None and (batch.state == Batch.State.STOPPED or bool(self._why_stopped(batch)))
        kwargs["extra_context"] = {"can_go_on": has_stopped and self.has_go_on_permission(request)}
        return super().change_view(request, object_id, *args, **kwargs)

    def has_go_on_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("jiki.add_batch")

    @admin.action(description="Continue stopped batches", permissions=["go_on"])
    def go_on(self, request: HttpRequest, batches: QuerySet[Batch]) -> None:
        for batch in batches.exclude(state=Batch.State.FINISHED):
            batch.goes_on(RecheckBatch.defer(batch.pk).id)  # unique: an enqueued job is not duplicated
        self.message_user(request, "The batches continue.")
