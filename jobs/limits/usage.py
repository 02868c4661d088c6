"""What limits are in use: by whom, who waits, since when, and when the next may start."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from redis import Redis

from jobs import runtime
from jobs.broker import keys
from jobs.broker.connections import reaching, servers
from jobs.broker.times import as_text, number_of
from jobs.limits import paused
from jobs.limits.control import declared, paused_commands
from jobs.limits.policy import MOST, Rate

LOOKED_AT = 1_000  # places with lanes that are read, those that have waited longest; and workers
SHOWN = 25  # of them, those that are shown of a limit


@dataclass(slots=True)
class Place:
    """A limit with one value of its key: the jobs that own a slot, and those that wait."""

    value: str
    holders: list[str] = field(default_factory=list)  # ids of jobs
    waiting: int = 0
    since: float = 0.0  # seconds since the epoch; 0 if nothing waits
    due: float = 0.0  # when a rate admits the next one, if that is known
    is_woken: bool = False  # whether any of them is about to be claimed, in some queue


@dataclass(slots=True)
class Usage:
    """A limit, as it stands. `per` and `burst` are 0 for a Concurrency."""

    id: str
    commands: list[str]
    n: int
    per: float = 0.0
    burst: int = 0
    has_key: bool = False  # False for a command that is paused, too: its id ends with `:pause:`
    is_overridden: bool = False
    is_paused: bool = False
    paused_values: list[str] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)

    @property
    def is_command(self) -> bool:
        """Whether it is the pause of a command."""
        return self.id.endswith(paused.KIND)

    @property
    def in_use(self) -> int:
        """The slots that are owned."""
        return sum(len(place.holders) for place in self.places)

    @property
    def waiting(self) -> int:
        """The jobs that wait."""
        return sum(place.waiting for place in self.places)

    @property
    def longest_wait(self) -> float:
        """Seconds since when any has waited; 0 if none does."""
        return max((self.wait_of(place) for place in self.places), default=0.0)

    def wait_of(self, place: Place) -> float:
        """Seconds since when any job has waited for a place; 0 if none does."""
        return max(0.0, runtime.now() - place.since) if place.since else 0.0

    @property
    def next_due(self) -> float:
        """When the next may start that waits for a rate, in seconds since the epoch; 0 if that is not known."""
        return min((place.due for place in self.places if place.due), default=0.0)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON. `next_due` is None if it is not known."""
        sums = {"in_use": self.in_use, "waiting": self.waiting, "longest_wait": self.longest_wait}
        return asdict(self) | sums | {"next_due": self.next_due or None}


def usage() -> list[Usage]:
    """
    Return the limits that commands declare, by their ids. Of lanes, those of the LOOKED_AT places are counted that have
    waited longest. Raises RedisUnavailableError.
    """
    found = {
        limit_id: Usage(
            limit_id,
            commands,
            limit.n,
            *((limit.seconds, limit.most) if isinstance(limit, Rate) else (0.0, 0)),
            has_key=limit.key is not None,
        )
        for limit_id, (limit, commands) in declared().items()
    }
    found |= {each: _of_pause(each) for each in map(paused.id_of, sorted(paused_commands()))}
    for client in servers() if found else ():
        with reaching(client):
            _add_places(client, found)
            _add_values(client, found)
    for each in found.values():
        each.places.sort(key=lambda place: (-place.waiting, place.value))
    return list(found.values())


def _of_pause(limit_id: str) -> Usage:
    """Return the limit of a command that is, or was, paused."""
    return Usage(limit_id, [limit_id.removesuffix(paused.KIND)], MOST)


def _add_values(client: Redis, found: dict[str, Usage]) -> None:
    with client.pipeline(transaction=False) as pipeline:
        for limit_id in found:
            pipeline.hgetall(keys.limit(limit_id))
        answers = pipeline.execute(raise_on_error=False)
    for each, answer in zip(found.values(), answers, strict=True):
        known = {as_text(name): as_text(text) for name, text in answer.items()} if isinstance(answer, dict) else {}
        each.n = int(number_of(known.get("own_n") or known.get("n"))) or each.n
        each.per = number_of(known.get("own_per") or known.get("per")) or each.per
        each.burst = int(number_of(known.get("own_burst") or known.get("burst"))) or each.burst
        each.is_overridden = each.is_overridden or "own_n" in known
        each.is_paused = each.is_paused or number_of(known.get("paused")) > runtime.now()
        until = {name.partition("=")[2]: text for name, text in known.items() if name.startswith("until=")}
        each.paused_values = [value for value, text in until.items() if number_of(text) > runtime.now()]


def _add_places(client: Redis, found: dict[str, Usage]) -> None:
    places: dict[tuple[str, str], Place] = {}

    def place_of(text: str) -> Place | None:
        limit_id, _, value = text.partition("=")
        if limit_id not in found:
            if not limit_id.endswith(paused.KIND):
                return None
            found[limit_id] = _of_pause(limit_id)
        if (limit_id, value) not in places:
            places[limit_id, value] = Place(value)
            found[limit_id].places.append(places[limit_id, value])
        return places[limit_id, value]

    waiting: Any = _read(client.zrange, keys.LIMITED, 0, LOOKED_AT - 1, withscores=True)
    workers: Any = _read(client.srandmember, keys.HOLDERS, LOOKED_AT)
    dues = dict(_read(client.zrange, keys.LIMITS_DUE, 0, LOOKED_AT - 1, withscores=True))
    with client.pipeline(transaction=False) as pipeline:
        for worker in workers:
            pipeline.smembers(keys.holds(as_text(worker)))
        for text, _ in waiting:
            pipeline.hgetall(keys.lanes(as_text(text)))
        answers = pipeline.execute(raise_on_error=False)
    for held in answers[: len(workers)]:
        for member in held if isinstance(held, set) else ():
            job, _, text = as_text(member).partition("\t")
            if place := place_of(text):
                place.holders.append(job.partition(":")[0])
    woken = [answer if isinstance(answer, dict) else {} for answer in answers[len(workers) :]]
    lengths = _lengths(client, waiting, woken)
    for (member, since), queues in zip(waiting, woken, strict=True):
        if place := place_of(as_text(member)):
            place.is_woken = place.is_woken or any(queues.values())
            place.waiting += lengths[member]
            place.since = since if not place.since else min(place.since, since)
            place.due = number_of(dues.get(member))


def _lengths(client: Redis, waiting: Any, queues: list[dict[Any, Any]]) -> Counter[bytes]:
    """
    Return how many jobs wait for each place. A long lane keeps ids of jobs that have gone otherwise until they are
    passed over: of these, no more are counted than there are jobs that wait in its queue for anything.
    """
    lanes = [(member, as_text(queue)) for (member, _), names in zip(waiting, queues, strict=True) for queue in names]
    counted: Counter[bytes] = Counter()
    with client.pipeline(transaction=False) as pipeline:
        for member, queue in lanes:
            pipeline.llen(keys.lane(as_text(member), queue))
            pipeline.zcard(keys.registry("deferred", queue))
        answers = pipeline.execute(raise_on_error=False)
        for (member, _), length, most in zip(lanes, answers[::2], answers[1::2], strict=True):
            counted[member] += min(length, most) if isinstance(length, int) and isinstance(most, int) else 0
    return counted


def _read(call: Any, *words: Any, **options: Any) -> Any:
    """Return the answer of a call to the server; nothing for a key of another type."""
    try:
        return call(*words, **options)
    except Exception as error:
        if "WRONGTYPE" in str(error):
            return []
        raise
