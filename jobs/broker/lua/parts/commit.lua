-- Parts: server, move, enqueue, record, leave
-- Writes an outcome. Of the script: `prefix`, `worker`, `iso`, `now`, `dead_limit`.
local commit = { refused = {}, releasing = {}, trimmed = 0 }

local ENDS = { F = 'finished', D = 'dead', C = 'discarded' } -- by the kind of an outcome, if the job ends with it

-- By the kind of an outcome: write the job's status, and its place unless that is a list. `has_plain`: whether RQ's
-- code has dependents to release. Returns when the job is forgotten, as `time`, and how it comes back into its list.
local kinds = {}

function kinds.F(id, queue, key, time, has_plain)
  if time == '0' and not has_plain then
    redis.call('DEL', key, prefix .. 'results:' .. id)
    return time
  end
  if time == '0' then
    time = '60' -- RQ's code reads the record to release its dependents
    redis.call('EXPIRE', prefix .. 'results:' .. id, time)
  end
  redis.call('HSET', key, 'status', 'finished', 'ended_at', iso)
  redis.call('EXPIRE', key, time)
  write('ZADD', prefix .. 'finished:' .. queue, now + time, id)
  return time
end

function kinds.S(id, queue, key, time)
  redis.call('HSET', key, 'status', 'scheduled')
  write('ZADD', prefix .. 'scheduled:' .. queue, time, id)
  return time
end

local function back(key, time, push)
  redis.call('HSET', key, 'status', 'queued')
  redis.call('HDEL', key, 'started_at', 'worker_name')
  return time, push
end

function kinds.H(_, _, key, time) return back(key, time, 'LPUSH') end

function kinds.T(_, _, key, time) return back(key, time, 'RPUSH') end

function kinds.D(id, queue, key, time)
  redis.call('HSET', key, 'status', 'failed', 'ended_at', iso)
  redis.call('HDEL', key, 'progress', 'interruptions', 'survived', 'expires_at') -- a retry by a person begins afresh
  write('ZADD', prefix .. 'failed:' .. queue, time, id)
  redis.call('EXPIREAT', key, time)
  return time
end

function kinds.C(id, queue, key, time)
  redis.call('HSET', key, 'status', 'canceled', 'ended_at', iso)
  write('ZADD', prefix .. 'canceled:' .. queue, time, id)
  redis.call('EXPIREAT', key, time)
  redis.call('EXPIREAT', prefix .. 'results:' .. id, time)
  return time
end

function kinds.W(id, queue, key, time)
  if redis.call('EXISTS', 'jobs:waits:' .. id) == 1 then
    redis.call('HSET', key, 'status', 'deferred')
    write('ZADD', prefix .. 'deferred:' .. queue, now, id)
    return time
  end
  redis.call('HSET', key, 'status', 'queued', 'enqueued_at', iso) -- the last one has ended since this was decided
  return time, 'RPUSH'
end

-- Keep a result as RQ does. It is forgotten with the job.
local function keep_result(id, kind, time, result_type, result, began)
  local results = prefix .. 'results:' .. id
  local words = { 'type', result_type, 'worker_name', worker }
  if result_type ~= '1' then
    words[5], words[6], words[7], words[8] = 'execution_started_at', began, 'execution_ended_at', now
    words[9], words[10] = 'exc_string', result
  elseif result ~= '' then
    words[5], words[6] = 'return_value', result
  end
  write('XADD', results, 'MAXLEN', '10', '*', unpack(words))
  if kind == 'S' or kind == 'T' then
    redis.call('PERSIST', results)
  else
    redis.call('EXPIRE', results, kind == 'F' and time or math.ceil(time - now))
  end
end

local function forget_execution(id, execution, queue)
  write('SREM', 'jobs:plain:' .. queue, id .. ':' .. execution)
  redis.call('DEL', prefix .. 'execution:' .. id .. ':' .. execution)
  redis.call('ZREM', prefix .. 'executions:' .. id, execution)
  redis.call('SREM', prefix .. 'worker:' .. worker .. ':executions', id .. ':' .. execution)
end

-- A job whose key is no hash any more: no outcome can be written. It is held no longer.
local function give_up(id, execution, queue)
  local kind = redis.call('TYPE', prefix .. 'job:' .. id).ok
  if kind == 'hash' or kind == 'none' then return end
  leave.broken({}, queue, id)
  redis.call('ZREM', prefix .. 'wip:' .. queue, id .. ':' .. execution)
end

-- What RQ's code has recorded. RQ's transaction has removed the claim, so the member of jobs:plain, which goes last,
-- tells whether this was written before. Returns that.
local function recorded(id, execution, queue, entry)
  local key = prefix .. 'job:' .. id
  local ended = leave.as_recorded(id, queue, entry, commit.releasing)
  if ended == nil then
    give_up(id, execution, queue)
  elseif not ended then -- to be run again: this attempt ended by itself
    local interruptions = redis.call('HGET', key, 'interruptions')
    if interruptions then redis.call('HSET', key, 'survived', interruptions) end
  end
  return write('SREM', 'jobs:plain:' .. queue, id .. ':' .. execution) == 1
end

local function write_outcome(at, position)
  local id, execution, queue, kind, time = unpack(ARGV, at, at + 4)
  local slow, result_type, result, began, event, entry, n = unpack(ARGV, at + 6, at + 12)
  if kind == 'N' then return recorded(id, execution, queue, entry) end
  local wip, member, key = prefix .. 'wip:' .. queue, id .. ':' .. execution, prefix .. 'job:' .. id
  if not redis.call('ZSCORE', wip, member) then
    local read, job = pcall(redis.call, 'HMGET', key, 'worker_name', 'status')
    commit.refused[#commit.refused + 1] = { position, read and job[1] or '', read and job[2] or '' }
    if slow == '1' and write('SISMEMBER', 'jobs:plain:' .. queue, member) == 1 then -- RQ's code took the claim
      recorded(id, execution, queue, entry)
    end
    return false
  end
  local has_plain, push = ENDS[kind] and leave.job(id, queue, ENDS[kind], entry, commit.releasing), nil
  time, push = kinds[kind](id, queue, key, time, has_plain)
  if n ~= '0' then redis.call('HSET', key, unpack(ARGV, at + 13, at + 12 + 2 * n)) end
  if event ~= '' then record.note(key, event) end
  if result_type ~= '' then keep_result(id, kind, time, result_type, result, began) end
  if kind == 'D' then -- after all of it is written: of those that died this second it may be the one to go
    commit.trimmed = commit.trimmed + leave.trim(queue, dead_limit)
  end
  if slow == '1' then forget_execution(id, execution, queue) end
  if push then -- last, as an outcome that could not be written is sent again, and a list may hold a job twice
    move.all_or_none(function(undo)
      enqueue.one(undo, push, prefix .. 'queue:' .. queue, id)
      redis.call('ZREM', wip, member)
    end)
  else
    redis.call('ZREM', wip, member)
  end
  return true
end

-- Write the outcome at that place of ARGV. Returns whether the attempt counts, else nothing or the error that kept it
-- from being written.
function commit.one(at, position)
  local done, answer = pcall(write_outcome, at, position)
  if done then return answer end
  pcall(give_up, ARGV[at], ARGV[at + 1], ARGV[at + 2])
  return false, type(answer) == 'table' and answer.err or tostring(answer)
end
