"""The kit's server in memory and the scripts that run on it, beside a real server: the same answers and errors."""

import gc
import re
import threading
import weakref
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from jobs import runtime
from jobs.broker import connections
from jobs.broker.connections import Script
from jobs.queues import _PUSH
from jobs.testing import Kit
from jobs.testing.lua import interpreter
from jobs.testing.server import Server
from tests.sample.commands.notes import WriteNote

COMMANDS = {
    "strings": """
        SET s 1 | GET s | GET none | TYPE s | HGET s a | LPUSH s 1 | SADD s 1 | ZADD s 1 a | XADD s MAXLEN 3 * a 1
        EXISTS s none s | SET s 2 EX 9 | TTL s | PERSIST s | TTL s | PERSIST s | TTL none | PTTL none | PTTL s
        EXPIRE s 7 | TTL s | EXPIRE none 7 | EXPIRE s x | RENAME s t | TTL t | EXISTS s | RENAME none t
        SET t 3 PX 9000 | TTL t | SET t 4 | TTL t | EXPIREAT t 1 | EXISTS t | DEL t s | SET t 5 | PEXPIRE t 5000
        TTL t | UNLINK t none | SET t 1 NX | SET t 2 NX | GET t | SET none 1 XX | SET t 3 XX GET | SET t 4 NX GET
        SET new 1 NX GET | SET t 5 NX EX 3 | TTL t | SET t 5 EX 30 | SET t 6 KEEPTTL | TTL t | SET t 6 XX PX 9000
        TTL t | SET t 1 NX XX | SET t 1 EX 0 | SET t 1 EX x | SET t 1 EXAT 9999999999 | PERSIST t | SET t 7 nx
        SET t 7 ex 50 | TTL t | INCR t | INCRBY t 5 | DECR t | DECRBY t 2 | INCR n | INCRBY n x | TTL t | SET t x
        INCR t | STRLEN t | STRLEN none | SETNX t 1 | SETNX u 1 | MGET t u none | GETDEL u | GETDEL u | EXISTS u
        PEXPIREAT t 9999999999000 | PERSIST t | PEXPIREAT t 1000 | EXISTS t | LPUSH l a | SET l 1 GET | INCR l | DEL l
        RENAME n new | GET new | SADD m a | GET m | SET m 1 | GET m
    """,
    "hashes": """
        HSET h a 1 b 2 | HSET h a 3 c 4 | HGET h a | HMGET h a x c | HGETALL h | HGETALL none | HLEN h | HEXISTS h a
        HEXISTS h x | HSTRLEN h a | HINCRBY h a 4 | HINCRBY h new -1 | HSET h text x | HINCRBY h text 1
        HSETNX h a 9 | HSETNX h z 9 | HDEL h a x | HSCAN h 0 COUNT 50 | HDEL h b c new text z | EXISTS h | TYPE h
        GET h | HSET h a 1 b 2 | HKEYS h | HVALS h | HKEYS none | HGETALL h | HINCRBY h a x
    """,
    "lists": """
        RPUSH l a b c d | LPUSH l x y | LLEN l | LRANGE l 0 -1 | LRANGE l 1 2 | LRANGE l -2 -1 | LRANGE l 4 2
        LRANGE l 9 12 | LRANGE l -99 0 | LPOS l c | LPOS l none | LPOS l c MAXLEN 2 | LPOS l c RANK -1
        LPOS l c RANK -1 MAXLEN 1 | LPOS l d RANK -1 MAXLEN 1 | LSET l 1 z | LSET l -1 z | LSET l 99 z
        LSET none 0 z | LREM l 1 z | LRANGE l 0 -1 | RPUSH l a a a | LREM l -2 a | LRANGE l 0 -1 | LREM l 0 a
        LREM l 0 none | LTRIM l 1 -1 | LRANGE l 0 -1 | LTRIM l 9 12 | EXISTS l | LLEN l | HGET l a
        LRANGE none 0 -1 | LTRIM none 0 1 | RPUSH l a b c d c e | LINDEX l 0 | LINDEX l -1 | LINDEX l 9 | LINDEX l -9
        LINSERT l BEFORE c x | LINSERT l AFTER e y | LINSERT l after none y | LINSERT none BEFORE a b | LINSERT l x a b
        LRANGE l 0 -1 | LPOS l c RANK 2 | LPOS l c RANK -2 | LPOS l c COUNT 0 | LPOS l c COUNT 1
        LPOS l c RANK -1 COUNT 0 | LPOS l none COUNT 0 | LPOS l c RANK 2 MAXLEN 3 | LPOP l | RPOP l | LPOP l 2
        RPOP l 9 | EXISTS l | LPOP l | LPOP l 2 | RPUSH l a b c | LMOVE l other LEFT RIGHT | LMOVE l other right LEFT
        LMOVE l l LEFT RIGHT | LMOVE l other LEFT LEFT | EXISTS l | LMOVE l other LEFT LEFT | LMOVE other l x LEFT
        LRANGE other 0 -1 | LPOP other -1 | LPOP other 0
    """,
    "sets": """
        SADD m a b a | SADD m b c | SCARD m | SISMEMBER m a | SISMEMBER m x | SREM m a x | SCARD m | SMEMBERS none
        SRANDMEMBER none | SRANDMEMBER none 3 | SREM m b | SMEMBERS m | SRANDMEMBER m | SRANDMEMBER m 3 | SREM m c
        EXISTS m | TYPE m | SADD m a | SPOP m | EXISTS m | SPOP m | SPOP m 2 | SADD m a | SPOP m 5 | SADD m a
        SMISMEMBER m a b | SMOVE m other b | SMOVE m other a | SMEMBERS other | EXISTS m | SADD m a | SINTER m other
        SDIFF m other | SUNION m other none | SPOP m -1 | SRANDMEMBER m 0 | SPOP m 0
    """,
    "sorted sets": """
        ZADD z 2 b 1 a 2 aa 3.5 c | ZADD z 4 a | ZADD z NX 9 a 5 d | ZADD z x a | ZCARD z | ZSCORE z a | ZSCORE z c
        ZSCORE z none | ZRANGE z 0 -1 | ZRANGE z 0 1 WITHSCORES | ZRANGE z -1 -1 WITHSCORES | ZRANGE z 0 -101
        ZREVRANGE z 0 1 | ZRANGEBYSCORE z 2 4 | ZRANGEBYSCORE z (2 (4
        ZRANGEBYSCORE z -inf +inf WITHSCORES LIMIT 1 2 | ZRANGEBYSCORE z -inf +inf LIMIT 0 2
        ZREVRANGEBYSCORE z +inf (2 | ZRANGEBYSCORE z x 2 | ZREVRANGEBYSCORE z 4 -inf LIMIT 0 2 | ZCOUNT z -inf 3
        ZREMRANGEBYSCORE z -inf (3 | ZRANGE z 0 -1 | ZREM z a x | ZADD z inf i 1e15 j | ZADD z 1732888999.123457 k
        ZRANGE z 0 -1 WITHSCORES | ZREM z c d i j k | EXISTS z | ZCARD z | ZRANGE z 0 -1 | TYPE z
        ZADD z XX 1 a | EXISTS z | ZADD z 1 a 2 b 3 c 4 d | ZADD z XX 9 x 1.5 a | ZADD z GT 1 b 5 c 7 new
        ZADD z LT 9 b 3 c | ZADD z XX GT CH 9 c 0 d 8 none | ZADD z CH 1 a 9 c 6 e | ZADD z INCR 2 a
        ZADD z NX INCR 2 a | ZADD z XX INCR 2 none | ZADD z GT INCR -1 a | ZADD z NX XX 1 a | ZADD z NX GT 1 a
        ZADD z GT LT 1 a | ZADD z INCR 1 a 2 b | ZADD z 1 a 2 | ZADD z nx 1 q | ZADD z NX x a | ZINCRBY z 1.5 a
        ZINCRBY z x a | ZRANGE z 0 -1 WITHSCORES | ZMSCORE z a none | ZRANK z a | ZRANK z none | ZRANGE z 0 2 REV
        ZRANGE z 2 9 BYSCORE | ZRANGE z (2 +inf BYSCORE LIMIT 1 2 | ZRANGE z +inf (2 BYSCORE REV LIMIT 0 2 WITHSCORES
        ZRANGE z -inf +inf byscore | ZRANGE z 0 1 LIMIT 0 1 | ZRANGE z 1 x BYSCORE
        ZRANGEBYSCORE z -inf +inf LIMIT 1 -1 | ZRANGEBYSCORE z -inf +inf LIMIT 0 1 WITHSCORES
        ZRANGEBYSCORE z -inf +inf LIMIT -1 2 | ZREVRANGE z 0 -1 WITHSCORES | ZCOUNT z (1 +inf | ZPOPMIN z | ZPOPMIN z 2
        ZPOPMAX z | ZREMRANGEBYRANK z 0 1 | ZRANGE z 0 -1 | ZREMRANGEBYRANK z 0 -1 | EXISTS z | ZPOPMIN z
        ZPOPMIN none 3
    """,
    "expiry": """
        SET s 1 | EXPIRE s 10 GT | EXPIRE s 10 XX | EXPIRE s 10 NX | TTL s | EXPIRE s 20 NX | EXPIRE s 5 GT
        EXPIRE s 20 GT | TTL s | EXPIRE s 30 LT | EXPIRE s 10 lt | TTL s | EXPIRE s 40 XX GT | TTL s | EXPIRE s 1 WHEN
        EXPIRE none 1 NX | EXPIREAT s 9999999999 GT | PEXPIRE s 1000 LT | TTL s | EXPIRE s -1 | EXISTS s | SET s 1
        EXPIRE s 10 LT | TTL s
    """,
    "others": """
        XREVRANGE none + - | PUBLISH channel x | TYPE none | DEL none
    """,
}


@pytest.mark.parametrize("kind", COMMANDS)
def test_commands_answer_as_a_servers_do(kind, valkey):
    server = Server()
    lines = [line.strip().rstrip("|") for line in COMMANDS[kind].split("\n")]
    with Redis.from_url(valkey.url, protocol=2) as client:
        client.flushdb()
        connection = client.connection_pool.get_connection()
        for command in " | ".join(filter(None, lines)).split(" | "):
            name, *words = command.encode().split()
            connection.send_command(name, *words)
            expected = answer(lambda: connection.read_response(disable_decoding=True))
            found = answer(lambda: server.commands[name](*words))  # noqa: B023
            assert (command, found) == (command, expected)
        client.connection_pool.release(connection)


def answer(command):
    try:
        return command()
    except ResponseError as error:
        return f"error: {error}"


def test_streams_keep_the_last_entries_and_give_them_back_in_reverse(valkey):
    server = Server()
    with valkey.client() as client:
        for number in range(4):
            client.execute_command("XADD", "x", "MAXLEN", 3, "*", "n", number)
            server.commands[b"XADD"](b"x", b"MAXLEN", b"3", b"*", b"n", b"%d" % number)
        assert [list(fields.values()) for _, fields in client.xrevrange("x", "+", "-", count=2)] == [[b"3"], [b"2"]]
    assert [fields for _, fields in server.commands[b"XREVRANGE"](b"x", b"+", b"-", b"COUNT", b"2")] == [
        [b"n", b"3"],
        [b"n", b"2"],
    ]
    assert len(server.commands[b"XREVRANGE"](b"x", b"+", b"-")) == server.commands[b"XLEN"](b"x") == 3


def test_each_command_is_compared():
    compared = set(" ".join(COMMANDS.values()).encode().split())

    assert Server().commands.keys() - compared == {b"TIME", b"XLEN"}  # below; and the entries of streams, above


def test_it_has_the_commands_that_the_scripts_use():
    texts = [path.read_text() for path in Path(connections.__file__).with_name("lua").rglob("*.lua")]
    called = re.compile(r"(?:redis\.p?call\(|redis\.p?call, |write\(|write, |\{ )'([A-Z]{3,})'")
    used = {name.encode() for text in texts for name in called.findall(text)}

    assert len(used) > 40
    assert used - Server().commands.keys() == set()


SCRIPTS = [
    "return { 1, 2.9, -2.9, 'a', true, false, 'b', nil, 'c' }",
    "return { {}, { 1, { 'x' } }, ARGV[1], KEYS[1], #ARGV, ARGV[2] }",
    "return nil",
    "return false",
    "local nothing = 1",
    "return { ok = 'FINE' }",
    "return redis.call('SET', KEYS[1], 'x')",
    "return { redis.call('GET', 'none') == false and 1, redis.call('HMGET', 'none', 'a', 'b')[2] == false and 1 }",
    "return { redis.call('TYPE', 'x').ok, type(redis.call('TYPE', 'x')) }",
    "redis.call('SET', 'k', 1.5) return redis.call('GET', 'k')",
    "redis.call('HSET', 'h', 'a', 3, 'b', 1e15, 'c', 0.1, 'd', -2) return redis.call('HMGET', 'h', 'a', 'b', 'd')",
    "redis.call('SET', 'k', 1) return redis.pcall('HGET', 'k', 'a').err",
    "redis.call('SET', 'k', 1) return { pcall(redis.call, 'HGET', 'k', 'a') and 1 or 0 }",
    "redis.call('SET', 'k', 1) return redis.pcall('HGET', 'k', 'a')",
    "return { cjson.encode({}), cjson.encode({ 1, 2.5, 'x' }), cjson.encode({ a = 1732888999.123457 }) }",
    "return { cjson.encode({ 1, nil, 3 }), cjson.encode({ x = true }), cjson.encode(cjson.null), cjson.encode({{}}) }",
    "return cjson.encode('a/\"\\\\\\n\\t\\1\\127\\195\\169')",
    "return { cjson.encode(1e15), cjson.encode(-0.1), cjson.encode({ ['1'] = 2 }), cjson.encode({ [1] = { a = 1 } }) }",
    "local t = cjson.decode(ARGV[3]) return { t.a[1], t.a[2].b, #t.a, t.n == cjson.null and 'null', t.f and 1, t.u }",
    "local t = cjson.decode(ARGV[3]) return { tostring(t.x), type(t.e), #t.e, type(t.n) }",
    "return { pcall(cjson.decode, '{') and 1 or 0, pcall(cjson.decode, 'x') and 1 or 0 }",
    "return { unpack(ARGV, 1, 2) }",
    "local function set() x = 1 end return { pcall(set) and 1 or 0 }",
    "local function read() return io end return { pcall(read) and 1 or 0 }",
    "return redis.error_reply('WAIT a minute')",
    "return { redis.sha1hex('x'), redis.status_reply('FINE').ok, redis.log(redis.LOG_NOTICE, 'x') }",
    "local l = {} for i = 1, 9000 do l[i] = i end return l",
    "for i = 1, 9000 do redis.call('RPUSH', 'l', i) end return #redis.call('LRANGE', 'l', 0, -1)",
    "for i = 1, 9000 do redis.call('RPUSH', 'l', i) end return { redis.call('LRANGE', 'l', 0, -1), 'end' }",
    "return { redis.call('TIME')[3] == nil and 1, { {}, { false, { true } } }, {} }",
    "return { redis.call('lpush', 'l', 'a'), redis.call('LPUSH', 'l', 'b') }",
    "return { string.format('%06d', '7'), '1' + 1, 10 / 4, tostring(3), tostring(1e15) }",
]
ARGUMENTS = [
    b"\xff\x00",
    b"2",
    b'{"a": [1, {"b": "c/\\u00e9\xc3\xa9"}], "n": null, "f": false, "u": "\xff", "x": 1.5, "e": []}',
]


@pytest.mark.parametrize("text", SCRIPTS)
def test_scripts_answer_as_on_a_server(text, valkey):
    with valkey.client() as client:
        client.flushdb()
        expected = answer(lambda: client.eval(text, 1, "key", *ARGUMENTS))

    assert answer(lambda: run(text)) == expected


def run(text, server=None):
    script = Script.__new__(Script)
    script.text = script.sha = text
    return interpreter().run(script, (server or Server()).commands, [b"key"], ARGUMENTS)


@pytest.mark.parametrize(
    "text", ["error('as planned', 0)", "redis.call('SET', 'k', 1) return redis.call('HGET', 'k', 'a')"]
)
def test_errors_of_scripts_are_those_of_the_client(text, valkey):
    with valkey.client() as client, pytest.raises(ResponseError) as expected:
        client.eval(text, 0)
    with pytest.raises(ResponseError) as found:
        run(text)

    assert str(expected.value).startswith(str(found.value))


@pytest.mark.parametrize(
    "text",
    [
        "pcall(redis.call, 'GETEX', 'k')",
        "redis.pcall('ZADD', 'k', 'SO', 1, 'a')",
        "redis.pcall('GET')",
        "pcall(function() return cmsgpack.pack(1) end)",
        "pcall(redis.setresp, 3)",
    ],
)
def test_what_the_kits_server_lacks_is_not_taken_for_an_error_that_a_script_may_handle(text):
    with pytest.raises((NotImplementedError, TypeError)):
        run(text)


def test_scripts_may_have_as_many_words_as_a_server_takes():
    script, words = Script.__new__(Script), [b"%d" % number for number in range(20_000)]
    script.text = script.sha = "return { #KEYS, #ARGV, ARGV[20000] }"

    assert interpreter().run(script, Server().commands, words[:9000], words) == [9000, 20_000, b"19999"]


def test_scripts_of_several_threads_and_kits_do_not_meet():
    failed = []

    def work(number):
        with Kit() as jobs:
            for turn in range(30):
                WriteNote.defer(f"{number}-{turn}")
            claims = [jobs.memory.claim(recorded.job.id) for recorded in jobs.enqueued_jobs]
            texts = [f"{number}-{turn}" for turn in range(30)]
            if [recorded.args[0] for recorded in jobs.enqueued_jobs] != texts or len({*claims}) != 30:
                failed.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (failed, [thread for thread in threads if thread.is_alive()]) == ([], [])


def test_keys_expire_by_the_kits_clock():
    with Kit() as jobs:
        run("redis.call('SET', 'k', 'v', 'EX', 60)", jobs.memory._server)
        jobs.travel(30)
        assert jobs.memory.get("k") == b"v"
        before = float(run("return redis.call('TIME')")[0])
        jobs.travel(31)
        assert jobs.memory.get("k") is None
        assert float(run("return redis.call('TIME')")[0]) >= before + 2


@pytest.mark.parametrize("now", [1732888999.1234567, 1732888999.0000181, 1732888999.0])
def test_what_is_due_at_the_moment_at_which_the_clock_stands_is_due(now, monkeypatch):
    """The second time, by a million, is a float that is too low."""
    monkeypatch.setattr(runtime, "now", lambda: now)
    seconds, microseconds = run("return redis.call('TIME')")

    assert now <= float(b"%b.%06d" % (seconds, int(microseconds))) <= now + 0.000001


def test_the_time_at_which_a_job_was_due_is_shown_after_it_was_promoted():
    with Kit() as jobs:
        WriteNote.defer("x", wait=60)
        jobs.perform_enqueued_jobs(at=jobs.enqueued_jobs[0].at + timedelta(seconds=1), only=lambda job: False)
        (job_id,) = jobs.memory.lrange("rq:queue:default", 0, -1)
        assert datetime.fromtimestamp(jobs.memory.due(job_id.decode()), UTC) == jobs.enqueued_jobs[0].at


def test_the_memory_of_a_test_is_freed_after_it():
    with Kit() as jobs:
        WriteNote.defer("x")
        assert jobs.memory.exists("rq:queues")
        gone = weakref.ref(jobs.memory._server)
    del jobs
    interpreter()._lua.execute(b"collectgarbage()")
    gc.collect()

    assert gone() is None
    assert _PUSH.sha in interpreter()._compiled
