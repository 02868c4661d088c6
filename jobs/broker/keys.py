"""
Every key in Redis, RQ's and ours, by a function or a constant. docs/reference.md describes their contents.

The Lua scripts take RQ's prefix as an argument, and spell our keys themselves.
"""

from collections.abc import Callable, Iterable

from rq.defaults import RQ_KEY_PREFIX

RQ = f"{RQ_KEY_PREFIX}:"  # the prefix of RQ's keys


# --- RQ's ------------------------------------------------------------------------------------

QUEUES = f"{RQ}queues"  # a set of the keys of the queues
WORKERS = f"{RQ}workers"  # a set of the keys of the workers
SUSPENDED = f"{RQ}suspended"  # exists while `rq suspend` stops all queues
SCHEDULED_BY_RQ_SCHEDULER = f"{RQ}scheduler:scheduled_jobs"  # rq-scheduler's jobs and our entries, by their next run


def job(job_id: str) -> str:
    """The record of a job, a hash."""
    return f"{RQ}job:{job_id}"


def results(job_id: str) -> str:
    """The results of a job's attempts, a stream."""
    return f"{RQ}results:{job_id}"


def queue(name: str) -> str:
    """The ids of a queue's jobs, a list whose head is the next job."""
    return f"{RQ}queue:{name}"


def registry(kind: str, queue: str) -> str:
    """A registry of a queue, a sorted set. `kind`: wip (claims), scheduled, deferred, finished, failed, canceled."""
    return f"{RQ}{kind}:{queue}"


def ready(queue: str) -> str:
    """RQ's own dependents that are ready to be enqueued, a sorted set."""
    return f"{RQ}ready:{queue}"


def worker(name: str) -> str:
    """The record of a worker process, a hash."""
    return f"{RQ}worker:{name}"


def workers_of(queue: str) -> str:
    """The keys of the workers that serve a queue, a set."""
    return f"{RQ}workers:{queue}"


def channel(worker: str) -> str:
    """The channel of a worker's remote commands."""
    return f"{RQ}pubsub:{worker}"


def name_of(key: str) -> str:
    """The name of the queue or worker whose key this is."""
    return key.removeprefix(RQ).partition(":")[2]


# --- ours: workers and queues ----------------------------------------------------------------

ALIVE = "jobs:workers"  # worker processes by their last beat
HEARD = "jobs:heard"  # the time of the last beat or recovery of any worker
SILENCE = "jobs:silence"  # exists after a long time without beats; while it exists, no worker is declared dead
PAUSED = "jobs:paused"  # a set of queues
PAUSED_COMMANDS = "jobs:paused:commands"  # commands, and until when they are paused
LINKING = "jobs:linking"  # waiting jobs that are not linked to all of their prerequisites yet
RELEASING = "jobs:releasing"  # jobs that have ended, whose dependents are not released yet
PROBE = "jobs:probe"  # written, for a second, to find out whether the server takes writes
ASIDE = "jobs:aside"  # keys that had another type than they should, by when they were put aside, as `jobs:aside:<key>`
OUTBOX_ENDED = "jobs:outbox:ended"  # durable jobs that have ended, whose rows in the outbox are still to be deleted
OUTBOX_PLAIN = "jobs:outbox:plain"  # commands under JOBS["DURABLE"] whose jobs could not be durable, by when that was
CODE_VERSIONS = "jobs:web"  # `<machine>:<process> <version>` by the time at which it was published


def plain(queue: str) -> str:
    """
    Claims of plain RQ jobs, a set: from the claim to the step that reads what RQ's code has written, so that a worker's
    death in between strands no dependents.
    """
    return f"jobs:plain:{queue}"


def doormen(group: str) -> str:
    """
    The workers that watch the lists of their queues, by when their place ends, a sorted set. `group`: the names of all
    queues that a worker serves, sorted, with commas.
    """
    return f"jobs:doormen:{group}"


def bell(group: str) -> str:
    """Tokens for the other workers of that group, a list: each wakes one."""
    return f"jobs:bell:{group}"


def recall(worker: str) -> str:
    """Takes a worker away from the bell, a list of one token."""
    return f"jobs:recall:{worker}"


def stacks(worker: str) -> str:
    """The stacks of a worker's threads when they were last requested."""
    return f"jobs:stacks:{worker}"


def lease(name: str) -> str:
    """The process that holds a duty which only one may hold: promotion, schedule, figures."""
    return f"jobs:lease:{name}"


# --- ours: one job ---------------------------------------------------------------------------


def gone(job_id: str) -> str:
    """How a job ended that no longer has a record."""
    return f"jobs:gone:{job_id}"


def sent(job_id: str) -> str:
    """Exists for a day after Redis got a durable job: "", or the id of the job whose duplicate it was."""
    return f"jobs:sent:{job_id}"


def waits(job_id: str) -> str:
    """The prerequisites for which a job still waits, a set."""
    return f"jobs:waits:{job_id}"


def unlinked(job_id: str) -> str:
    """Prerequisites of a waiting job to which the job is not linked yet, a set; it has too many for one call."""
    return f"jobs:unlinked:{job_id}"


def dependents(job_id: str) -> str:
    """The jobs that wait until this one has finished, a set."""
    return f"jobs:dependents:{job_id}"


def followers(job_id: str) -> str:
    """The jobs that wait until this one has ended in any way, a set."""
    return f"jobs:followers:{job_id}"


def waiters(job_id: str) -> str:
    """The processes that wait for a job's end, a set; each is noted again while it waits."""
    return f"jobs:waiters:{job_id}"


def woken(process: str) -> str:
    """The channel on which a process that waits for jobs is woken."""
    return f"jobs:woken:{process}"


def unique(command: str, digest: str) -> str:
    """The lock of a unique command: the id of the job that holds it."""
    return f"jobs:unique:{command}:{digest}"


def collapse(command: str, digest: str) -> str:
    """The job of a key into which further pushes collapse until it begins: its id."""
    return f"jobs:collapse:{command}:{digest}"


# --- ours: limits. A place is a limit with one value of its key: `<limit>=<value>` -----------

LIMITED = "jobs:limited"  # places for which jobs wait, by since when
LIMITS_DUE = "jobs:limits:due"  # places whose rate admits the next job, by when
HOLDERS = "jobs:holders"  # workers that own slots, a set


def limit(limit_id: str) -> str:
    """The values of a limit that hold now: the newest release's, and an operator's; a hash."""
    return f"jobs:limit:{limit_id}"


def slots(place: str) -> str:
    """The executions that own a slot of a place, a set of `<job>:<execution>`."""
    return f"jobs:slots:{place}"


def holds(worker: str) -> str:
    """The slots that a worker's executions own, a set of `<job>:<execution>`, a tab, and the place."""
    return f"jobs:holds:{worker}"


def rate(place: str) -> str:
    """When a rate is as if nothing had ever started, in seconds since the epoch."""
    return f"jobs:rate:{place}"


def lane(place: str, queue: str) -> str:
    """The jobs of a queue that wait for a place, a list whose head is the next one."""
    return f"jobs:lane:{place}:{queue}"


def lanes(place: str) -> str:
    """The queues that have a lane for a place, a hash: the job that was woken in each, or ""."""
    return f"jobs:lanes:{place}"


# --- ours: batches ---------------------------------------------------------------------------

BATCHES = "jobs:batches"  # the ids of batches by when they were written
BATCH_STATES = ("pending", "finished", "dead", "discarded", "cancelled", "deleted")  # states of members


def batch(batch_id: str) -> str:
    """The record of a batch, a hash."""
    return f"jobs:batch:{batch_id}"


def batch_members(state: str, batch_id: str) -> str:
    """The members of a batch in one of BATCH_STATES, a set of ids of jobs, and of children as `batch:<id>`."""
    return f"jobs:batch:{state}:{batch_id}"


def batch_holds(batch_id: str) -> str:
    """Who still adds jobs to a batch, which is open until then, a set."""
    return f"jobs:batch:holds:{batch_id}"


def batch_duplicates(batch_id: str) -> str:
    """Jobs that were not written because another job, which is a member of the batch, stands for them, a set."""
    return f"jobs:batch:duplicates:{batch_id}"


def batch_children(batch_id: str) -> str:
    """The ids of the batches in a batch, a set."""
    return f"jobs:batch:children:{batch_id}"


def batch_again(batch_id: str) -> str:
    """The steps of a flow that are to run again, each with what it lacks then, a hash."""
    return f"jobs:batch:again:{batch_id}"


# --- ours: recurring entries -----------------------------------------------------------------

ENTRIES = "jobs:schedule"  # a set of the ids of all entries
LISTS = "jobs:schedule:lists"  # the project's lists of entries in the order in which they first appeared
FOLLOWED = "jobs:schedule:list"  # the list that the stored entries follow, and whether all of them are written, a hash


def processes_of(list_id: str) -> str:
    """The processes that have this list of entries, by their last beat, a sorted set."""
    return f"jobs:schedule:list:{list_id}"


def removed(entry_id: str) -> str:
    """The record of an entry that was removed from the list, for a day."""
    return f"jobs:schedule:removed:{entry_id}"


def runs(entry_id: str) -> str:
    """The last runs of an entry, a list, the newest first."""
    return f"jobs:schedule:runs:{entry_id}"


def runs_ended(entry_id: str) -> str:
    """How the runs of an entry ended, a hash by their ids."""
    return f"jobs:schedule:ended:{entry_id}"


# --- ours: counts, changes and profiles ------------------------------------------------------

COUNTS_TOTAL, COUNTS_SUMMED = "jobs:counts:total", "jobs:counts:summed"
ACTIVITY = "jobs:activity"  # what people have changed, a stream
RELEASES = "jobs:releases"  # since when workers run each release, and when it was last seen, a hash
ERRORS = "jobs:errors"  # fingerprints of errors by when they were last seen
CHANGES = "jobs:bulk"  # changes of many jobs by the time at which they began
PROFILES = "jobs:profiles"  # `<job id>:<attempt>` by the time at which it ended


def counts(minute: int) -> str:
    """The attempts that ended in a minute (since the epoch), a hash by their labels."""
    return f"jobs:counts:{minute}"


def counts_of_hour(hour: int) -> str:
    """The attempts that ended in an hour (since the epoch), a hash by their labels."""
    return f"jobs:counts:hour:{hour}"


def counts_so_far(hour: int) -> str:
    """Sums of the minutes of an hour that are added up so far, a hash; it becomes `counts_of_hour`."""
    return f"jobs:counts:summing:{hour}"


def total_so_far(hour: int) -> str:
    """The total that is to include this hour, as far as it is added up, a hash; it becomes COUNTS_TOTAL."""
    return f"jobs:counts:totalling:{hour}"


def counts_packed(place: str) -> str:
    """The counts of a minute or an hour that change no more, as one value; `place`: its start and length in seconds."""
    return f"jobs:counts:packed:{place}"


def digest(hour: int) -> str:
    """What each command and queue did in an hour (since the epoch), a hash by `command|<name>` and `queue|<name>`."""
    return f"jobs:digest:{hour}"


def error(fingerprint: str) -> str:
    """The error of a fingerprint, a hash."""
    return f"jobs:error:{fingerprint}"


def errors_of(step: int) -> str:
    """Failed attempts in ten minutes (since the epoch), a hash by `<fingerprint>|<class>|<command>`."""
    return f"jobs:errors:{step}"


def retried(fingerprint: str) -> str:
    """The jobs of an error that a person has retried last, a set."""
    return f"jobs:retried:{fingerprint}"


def samples(minute: int) -> str:
    """Length and latency of each queue in a minute (since the epoch), and busy and all threads, a hash."""
    return f"jobs:samples:{minute}"


def change(job_id: str) -> str:
    """The progress of a change of many jobs, a hash."""
    return f"jobs:bulk:{job_id}"


def activity_of(job_id: str) -> str:
    """What people have changed of one job, a list, the latest first."""
    return f"jobs:activity:{job_id}"


def searches(user: str) -> str:
    """The searches that a user of the dashboard has kept, a hash by their names."""
    return f"jobs:searches:{user}"


def profile(member: str) -> str:
    """A profile by its member in PROFILES, a hash."""
    return f"jobs:profile:{member}"


# --- their types -----------------------------------------------------------------------------

REGISTRIES = ("wip", "scheduled", "deferred", "finished", "failed", "canceled")  # kinds of `registry`

TYPES: dict[str | Callable[..., str], str] = {  # of each key and function above, in the server's words
    **dict.fromkeys((QUEUES, WORKERS, PAUSED, LINKING, RELEASING, OUTBOX_ENDED, ENTRIES, retried), "set"),
    **dict.fromkeys((workers_of, plain, waits, unlinked, dependents, followers, waiters), "set"),
    **dict.fromkeys((batch_members, batch_holds, batch_duplicates, batch_children), "set"),
    **dict.fromkeys((SCHEDULED_BY_RQ_SCHEDULER, ALIVE, CODE_VERSIONS, LISTS, CHANGES, PROFILES, ERRORS), "zset"),
    **dict.fromkeys((OUTBOX_PLAIN, BATCHES, registry, ready, processes_of, doormen), "zset"),
    **dict.fromkeys(
        (ASIDE, FOLLOWED, COUNTS_TOTAL, RELEASES, PAUSED_COMMANDS, job, worker, batch, runs_ended, change, profile),
        "hash",
    ),
    **dict.fromkeys((counts, counts_of_hour, counts_so_far, total_so_far, digest, samples, error, errors_of), "hash"),
    batch_again: "hash",
    **dict.fromkeys((SUSPENDED, HEARD, SILENCE, PROBE, COUNTS_SUMMED, stacks, lease, gone, sent), "string"),
    **dict.fromkeys((unique, collapse), "string"),
    **dict.fromkeys((queue, runs, bell, recall, activity_of), "list"),
    **dict.fromkeys((removed, searches, limit, lanes), "hash"),
    **dict.fromkeys((HOLDERS, slots, holds), "set"),
    **dict.fromkeys((LIMITED, LIMITS_DUE), "zset"),
    lane: "list",
    rate: "string",
    counts_packed: "string",
    **dict.fromkeys((results, ACTIVITY), "stream"),
}


def type_of(key: str) -> str:
    """The type that a key should have; "" for any other key, such as RQ's sets beside a job's record."""
    if key in TYPES:
        return TYPES[key]
    if key.startswith((job(""), worker(""))) and key.count(":") > 2:
        return ""
    beginning = max((each for each in _BEGINNINGS if key.startswith(each)), key=len, default="")
    return _BEGINNINGS.get(beginning, "")


def shared(queues: Iterable[str]) -> list[str]:
    """The keys that all jobs share, and those that the jobs of each of these queues share."""
    return [
        *(each for each in TYPES if isinstance(each, str)),
        *(each(name) for name in queues for each in (queue, ready, workers_of, plain)),
        *(registry(kind, name) for name in queues for kind in REGISTRIES),
    ]


_BEGINNINGS = {registry(kind, ""): TYPES[registry] for kind in REGISTRIES}
_BEGINNINGS |= {batch_members(state, ""): TYPES[batch_members] for state in BATCH_STATES}
_BEGINNINGS |= {
    each("", "").removesuffix(":") if each in (unique, collapse, lane) else each(""): kind
    for each, kind in TYPES.items()
    if callable(each) and each not in (registry, batch_members)
}
