"""The dashboard's addresses, below its place in the admin. Each change is a POST to its own address."""

from django.contrib.admin.sites import AdminSite
from django.urls import URLPattern, path, register_converter

from jobs.bulk import CHANGES
from jobs.dashboard import (
    actions,
    activities,
    api,
    batches,
    batches_api,
    changes,
    command,
    commands,
    edit,
    errors,
    htmx,
    job,
    limits,
    lists,
    metrics,
    overview,
    profiles,
    questions,
    recurring,
    searching,
    workers,
    zones,
)
from jobs.dashboard.converters import NameConverter
from jobs.dashboard.wrappers import action, page

register_converter(NameConverter, "any")


def patterns(site: AdminSite) -> list[URLPattern]:
    """Return the pages, data and actions of one admin site."""
    pages = [
        path("", page(site, overview.overview), name="jobs_dashboard_changelist"),
        path("jobs/<str:state>/", page(site, lists.jobs), name="jobs_list"),
        path("job/<any:job_id>/", page(site, job.job), name="jobs_job"),
        path("job/<any:job_id>/edit/", page(site, edit.edit), name="jobs_job_edit"),
        path("queue/<any:queue>/", page(site, lists.queue), name="jobs_queue"),
        path("workers/", page(site, workers.worker_list), name="jobs_workers"),
        path("workers/<any:name>/", page(site, workers.worker), name="jobs_worker"),
        path("recurring/", page(site, recurring.recurring), name="jobs_recurring"),
        path("limits/", page(site, limits.limits), name="jobs_limits"),
        path("commands/", page(site, commands.commands), name="jobs_commands"),
        path("batches/", page(site, batches.batches), name="jobs_batches"),
        path("batches/<any:batch_id>/", page(site, batches.batch), name="jobs_batch"),
        path("search/", page(site, searching.search), name="jobs_search"),
        path("errors/", page(site, errors.errors), name="jobs_errors"),
        path("activity/", page(site, activities.activities), name="jobs_activity"),
        path("command/<any:name>/", page(site, command.command), name="jobs_command"),
        path("changes/<any:job_id>/", page(site, changes.change), name="jobs_change"),
        path("profiles/", page(site, profiles.recent), name="jobs_profiles"),
        path("job/<any:job_id>/profile/<int:attempt>/", page(site, profiles.flame_graph), name="jobs_flame_graph"),
    ]
    data = [
        path("api/overview/", api.endpoint(api.overview), name="jobs_api_overview"),
        path("api/jobs/<str:state>/", api.endpoint(api.jobs), name="jobs_api_jobs"),
        path("api/errors/", api.endpoint(api.errors), name="jobs_api_errors"),
        path("api/search/", api.endpoint(api.search), name="jobs_api_search"),
        path("api/job/<any:job_id>/", api.endpoint(api.job), name="jobs_api_job"),
        path("api/workers/", api.endpoint(api.worker_list), name="jobs_api_workers"),
        path("api/workers/<any:name>/", api.endpoint(api.worker), name="jobs_api_worker"),
        path("api/recurring/", api.endpoint(api.recurring), name="jobs_api_recurring"),
        path("api/commands/", api.endpoint(api.commands), name="jobs_api_commands"),
        path("api/limits/", api.endpoint(limits.as_json), name="jobs_api_limits"),
        path("api/batches/", api.endpoint(batches_api.batches), name="jobs_api_batches"),
        path("api/batches/<any:batch_id>/", api.endpoint(batches_api.batch), name="jobs_api_batch"),
        path("api/changes/", api.endpoint(api.changes), name="jobs_api_changes"),
        path("api/changes/<any:job_id>/", api.endpoint(api.change), name="jobs_api_change"),
        path("metrics/", metrics.metrics, name="jobs_metrics"),
        path("zone/", zones.choice(site), name="jobs_zone"),
        path("htmx.js", htmx.script, name="jobs_htmx"),
    ]
    posts = [
        path("search/keep/", action(site, "view", searching.keep), name="jobs_search_keep"),
        path("search/forget/", action(site, "view", searching.forget), name="jobs_search_forget"),
        path("job/<any:job_id>/move/", action(site, "retry", actions.move_job), name="jobs_job_move"),
        path(
            "job/<any:job_id>/reschedule/",
            action(site, "retry", actions.reschedule_job),
            name="jobs_job_reschedule",
        ),
        path("job/<any:job_id>/profile/", action(site, "retry", actions.profile_job), name="jobs_job_profile"),
        path(
            "job/<any:job_id>/anew/",
            action(site, "retry", actions.begin_anew, questions.ask_anew),
            name="jobs_job_anew",
        ),
        path(
            "job/<any:job_id>/force/",
            action(site, "retry", actions.force_job, questions.ask_force),
            name="jobs_job_force",
        ),
        path("job/<any:job_id>/edited/", action(site, "retry", edit.make), name="jobs_job_edited"),
        path("job/<any:job_id>/copy/", action(site, "retry", actions.copy_job), name="jobs_job_copy"),
        path("queue/<any:queue>/pause/", action(site, "pause", actions.pause_queue), name="jobs_queue_pause"),
        path("queue/<any:queue>/resume/", action(site, "pause", actions.resume_queue), name="jobs_queue_resume"),
        path(
            "queue/<any:queue>/clear/",
            action(site, "delete", actions.clear_queue, questions.ask_clear),
            name="jobs_queue_clear",
        ),
        path("limits/<any:name>/pause/", action(site, "pause", limits.pause), name="jobs_limit_pause"),
        path("limits/<any:name>/resume/", action(site, "pause", limits.resume), name="jobs_limit_resume"),
        path("limits/<any:name>/override/", action(site, "pause", limits.override), name="jobs_limit_override"),
        path("recurring/<any:name>/pause/", action(site, "pause", actions.pause_entry), name="jobs_entry_pause"),
        path("recurring/<any:name>/resume/", action(site, "pause", actions.resume_entry), name="jobs_entry_resume"),
        path("recurring/<any:name>/run/", action(site, "retry", actions.run_entry), name="jobs_entry_run"),
    ]
    for name in CHANGES:
        change = actions.retry_job if name == "retry" else actions.change_job(name)
        one = action(site, actions.NEEDS[name], change, questions.ask_job(name))
        many = action(site, actions.NEEDS[name], actions.change_many(name), questions.ask_many(name))
        posts.append(path(f"job/<any:job_id>/{name}/", one, name=f"jobs_job_{name}"))
        posts.append(path(f"jobs/<str:state>/{name}/", many, name=f"jobs_many_{name}"))
    for name, needed in batches.CHANGES.items():
        asks = batches.ask_cancel if name == "cancel" else None
        view = action(site, needed, batches.change_batch(name), asks)
        posts.append(path(f"batches/<any:batch_id>/{name}/", view, name=f"jobs_batch_{name}"))
    for order in ("quiet", "stop", "stacks", "profile"):
        view = action(site, "workers", actions.send_to_workers(order), actions.ask_worker(order))
        posts.append(path(f"workers/<any:name>/{order}/", view, name=f"jobs_worker_{order}"))
        posts.append(path(f"selected-workers/{order}/", view, name=f"jobs_workers_{order}"))
    return pages + data + posts
