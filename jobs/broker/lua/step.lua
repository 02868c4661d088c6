-- Commit what a worker has done and claim what it does next, in one atomic step. After shared.lua.
--
-- KEYS  the queue lists to claim from, in the order to try them
-- ARGV  1 RQ's key prefix ('rq:')   2 worker name   3 now (ISO)   4 now (seconds)   5 jobs wanted
--       6 number of the first execution to hand out   7 key of this minute's counts   8 seconds to keep those
--       9 number of outcomes   10 seconds without a beat after which a worker is dead   11 dead jobs that a queue keeps
--       12... for each outcome:
--         id, execution, queue, kind, time, label, slow, result type, result, began, event, entry, n, n names and
--         values of job fields
--       kind  F finished (time: result_ttl)  S scheduled (time: due)  H, T head or tail of its queue
--             D dead  C discarded (time: when to forget it, for both)  W waiting  N written by RQ's own code
--       slow  '1' when the attempt ran long enough for a beat to have written RQ's execution record, and for plain jobs
--       began  when the attempt did (seconds), where a result is kept;  event  for the job's history, or ''
--       entry  the recurring entry whose run this is, or ''
-- Returns { outcomes refused, outcomes that failed, what is to be released, claims, registered, trimmed }:
--       refused  position (from 0) of each outcome whose claim this worker no longer holds, who took the job over, and
--                the job's status
--       failed   position and error of outcomes that could not be written; their claims are still held
--       to be released  members of `jobs:releasing`
--       claims   id, queue, execution, payload, timeout, result_ttl, interruptions, whether RQ's own code made the job;
--                where there are any: progress, expiry, whether prerequisites are lacking, context, recurring entry,
--                whether to profile it
--       trimmed  dead jobs that were too many
--
-- It may be sent twice: an outcome is written only while its claim (the wip member `id:execution`) is held, and the
-- claim goes last. Each job is written by itself (pcall): a key of a wrong type or a full server stops nothing else.
local prefix, worker, iso, now = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local want, execution = tonumber(ARGV[5]), tonumber(ARGV[6])
local dead_limit = tonumber(ARGV[11])
local refused, failed, releasing, claims, counts, trimmed = {}, {}, {}, {}, {}, 0
-- A wip score that no clean-up reaches, since heartbeats alone decide that a claim is dead; the order of claims is
-- kept in it, because recovery gives them back in that order.
local FAR = 8000000000 + now

local function forget_execution(id, execution, queue)
  write('SREM', 'jobs:plain:' .. queue, id .. ':' .. execution)
  redis.call('DEL', prefix .. 'execution:' .. id .. ':' .. execution)
  redis.call('ZREM', prefix .. 'executions:' .. id, execution)
  redis.call('SREM', prefix .. 'worker:' .. worker .. ':executions', id .. ':' .. execution)
end

-- Jobs that wait for this one, in the ways in which they can. One look costs nothing when there are none.
local function release_waiting(id, queue, finished)
  if redis.call('EXISTS', 'jobs:dependents:' .. id, 'jobs:followers:' .. id, prefix .. 'job:' .. id .. ':dependents') == 0 then
    return false
  end
  for _, set in ipairs(ended(id, finished)) do releasing[#releasing + 1] = set end
  if finished and redis.call('EXISTS', prefix .. 'job:' .. id .. ':dependents') == 1 then
    local member = 'rq:' .. queue .. ':' .. id
    write('SADD', 'jobs:releasing', member)
    releasing[#releasing + 1] = member
    return true
  end
  return false
end

-- What a recurring entry's history says of a run, by the kind of its outcome.
local RUN_ENDED = { F = 'finished', D = 'dead', C = 'discarded' }

-- A job whose key is no hash any more: no outcome can be written. It is shown among the dead, and held no longer.
local function give_up(id, execution, queue)
  local kind = redis.call('TYPE', prefix .. 'job:' .. id).ok
  if kind == 'hash' or kind == 'none' then return end
  write('ZADD', prefix .. 'failed:' .. queue, '9999999999', id)
  redis.call('ZREM', prefix .. 'wip:' .. queue, id .. ':' .. execution)
end

-- What RQ's code has recorded: finished and perhaps forgotten, ended badly, or to be run again. RQ's transaction has
-- removed the claim, so the member of jobs:plain, which goes last, tells whether this was written before. Returns that.
local function recorded(id, execution, queue, entry)
  local status = redis.pcall('HGET', prefix .. 'job:' .. id, 'status')
  if type(status) == 'table' then -- its key is no hash: recovery shows it among the dead
    give_up(id, execution, queue)
  elseif status == 'finished' or not status and redis.call('EXISTS', 'jobs:gone:' .. id) == 0 then
    release_waiting(id, queue, true)
    if entry ~= '' then entry_ended(entry, id, 'finished') end
  elseif ENDED[status] then
    release_waiting(id, queue, false)
    if entry ~= '' then entry_ended(entry, id, status == 'canceled' and 'discarded' or 'dead') end
  elseif status then -- to be run again: this attempt ended by itself
    local interruptions = redis.call('HGET', prefix .. 'job:' .. id, 'interruptions')
    if interruptions then redis.call('HSET', prefix .. 'job:' .. id, 'survived', interruptions) end
  end
  return write('SREM', 'jobs:plain:' .. queue, id .. ':' .. execution) == 1
end

-- More dead jobs than a queue keeps: the oldest go, some a call. A trace is left, so that none is taken for finished.
local function trim(queue)
  local registry = prefix .. 'failed:' .. queue
  local over = redis.call('ZCARD', registry) - dead_limit
  if over <= 0 then return end
  for _, id in ipairs(redis.call('ZRANGE', registry, 0, math.min(over, 100) - 1)) do
    redis.call('DEL', prefix .. 'job:' .. id, prefix .. 'results:' .. id)
    redis.call('SET', 'jobs:gone:' .. id, 'trimmed', 'EX', 86400)
    redis.call('ZREM', registry, id)
    trimmed = trimmed + 1
  end
end

local function keep_result(results, ...)
  write('XADD', results, 'MAXLEN', '10', '*', ...)
end

local function commit(at, position)
  local id, execution, queue, kind, time = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local result_type, result, event, n = ARGV[at + 7], ARGV[at + 8], ARGV[at + 10], tonumber(ARGV[at + 12])
  local wip, member, key = prefix .. 'wip:' .. queue, id .. ':' .. execution, prefix .. 'job:' .. id
  local push = nil -- how the job comes back into its list
  if not redis.call('ZSCORE', wip, member) then
    local read, job = pcall(redis.call, 'HMGET', key, 'worker_name', 'status')
    refused[#refused + 1] = { position, read and job[1] or '', read and job[2] or '' }
    if ARGV[at + 6] == '1' and write('SISMEMBER', 'jobs:plain:' .. queue, member) == 1 then -- RQ's code took the claim
      recorded(id, execution, queue, ARGV[at + 11])
    end
    return false
  end
  if kind == 'F' then
    local has_rq_dependents = release_waiting(id, queue, true)
    if time == '0' and not has_rq_dependents then
      redis.call('DEL', key, prefix .. 'results:' .. id)
    else
      if time == '0' then
        time = '60' -- RQ's code reads the record to release its dependents
        redis.call('EXPIRE', prefix .. 'results:' .. id, time)
      end
      redis.call('HSET', key, 'status', 'finished', 'ended_at', iso)
      redis.call('EXPIRE', key, time)
      write('ZADD', prefix .. 'finished:' .. queue, now + time, id)
    end
  elseif kind == 'S' then
    redis.call('HSET', key, 'status', 'scheduled')
    write('ZADD', prefix .. 'scheduled:' .. queue, time, id)
  elseif kind == 'H' or kind == 'T' then
    redis.call('HSET', key, 'status', 'queued')
    redis.call('HDEL', key, 'started_at', 'worker_name')
    push = kind == 'H' and 'LPUSH' or 'RPUSH'
  elseif kind == 'D' then
    redis.call('HSET', key, 'status', 'failed', 'ended_at', iso)
    redis.call('HDEL', key, 'progress', 'interruptions', 'survived', 'expires_at') -- a retry by a person begins afresh
    write('ZADD', prefix .. 'failed:' .. queue, time, id)
    redis.call('EXPIREAT', key, time)
    release_waiting(id, queue, false)
  elseif kind == 'C' then
    redis.call('HSET', key, 'status', 'canceled', 'ended_at', iso)
    write('ZADD', prefix .. 'canceled:' .. queue, time, id)
    redis.call('EXPIREAT', key, time)
    redis.call('EXPIREAT', prefix .. 'results:' .. id, time)
    release_waiting(id, queue, false)
  elseif kind == 'W' then
    if redis.call('EXISTS', 'jobs:waits:' .. id) == 1 then
      redis.call('HSET', key, 'status', 'deferred')
      write('ZADD', prefix .. 'deferred:' .. queue, now, id)
    else -- the last one has ended since this was decided
      redis.call('HSET', key, 'status', 'queued', 'enqueued_at', iso)
      push = 'RPUSH'
    end
  end
  if n > 0 then redis.call('HSET', key, unpack(ARGV, at + 13, at + 12 + 2 * n)) end
  if event ~= '' then note(key, event) end
  if result_type ~= '' then
    local results = prefix .. 'results:' .. id
    if result_type ~= '1' then
      keep_result(results, 'type', result_type, 'worker_name', worker,
        'execution_started_at', ARGV[at + 9], 'execution_ended_at', now, 'exc_string', result)
    elseif result == '' then
      keep_result(results, 'type', result_type, 'worker_name', worker)
    else
      keep_result(results, 'type', result_type, 'worker_name', worker, 'return_value', result)
    end
    if kind == 'S' or kind == 'T' then
      redis.call('PERSIST', results) -- it ends with the job
    else
      redis.call('EXPIRE', results, kind == 'F' and time or math.ceil(time - now))
    end
  end
  if ARGV[at + 11] ~= '' and RUN_ENDED[kind] then entry_ended(ARGV[at + 11], id, RUN_ENDED[kind]) end
  if kind == 'D' then trim(queue) end -- after all of it is written: of those that died this second it may be the one to go
  if ARGV[at + 6] == '1' then forget_execution(id, execution, queue) end
  if push then -- last, as an outcome that could not be written is sent again, and a list may hold a job twice
    all_or_none(function(undo)
      put_into_list(undo, push, prefix .. 'queue:' .. queue, id)
      redis.call('ZREM', wip, member)
    end)
  else
    redis.call('ZREM', wip, member)
  end
  return true
end

local at = 12
for position = 0, tonumber(ARGV[9]) - 1 do
  local ok, held = true, true
  if ARGV[at + 3] == 'N' then
    ok, held = pcall(recorded, ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 11])
  else
    ok, held = pcall(commit, at, position)
  end
  if not ok then
    pcall(give_up, ARGV[at], ARGV[at + 1], ARGV[at + 2])
    failed[#failed + 1] = { position, type(held) == 'table' and held.err or tostring(held) }
  elseif held then
    local label = ARGV[at + 5]
    if label ~= '' then counts[label] = (counts[label] or 0) + 1 end
  end
  at = at + 13 + 2 * tonumber(ARGV[at + 12])
end
pcall(function()
  for label, count in pairs(counts) do write('HINCRBY', ARGV[7], label, count) end
  if next(counts) then redis.call('EXPIRE', ARGV[7], ARGV[8]) end
end)

-- A job without a payload: deleted meanwhile, so that only its id was left in the list; or its record has lost it.
local function bury(queue, id, key)
  if redis.call('EXISTS', key) == 0 then return end
  local time = math.floor(now) + 180 * 86400
  write('ZADD', prefix .. 'failed:' .. queue, time, id)
  release_waiting(id, queue, false)
  run_ended(key, id, 'dead')
  redis.call('HSET', key, 'status', 'failed', 'ended_at', iso, 'reason', 'PayloadError: Its record has no payload.')
  note(key, cjson.encode({ event = 'failed', at = tonumber(now), worker = worker, reason = 'Its record has no payload.' }))
  redis.call('EXPIREAT', key, time)
end

-- Marks a job as taken; false when the server refuses to write. Nothing is popped before all of it is written.
local function claim(queue, id)
  local key = prefix .. 'job:' .. id
  local read, job = pcall(redis.call, 'HMGET', key, 'data', 'timeout', 'result_ttl', 'interruptions',
    'success_callback_name', 'more')
  if not read then -- the job's key is no hash: show it among the dead, and go on
    return (pcall(write, 'ZADD', prefix .. 'failed:' .. queue, '9999999999', id))
  end
  if not job[1] then return (pcall(bury, queue, id, key)) end
  local name = worker .. '.' .. execution
  local score = string.format('%.6f', FAR + #claims / 100000)
  if not pcall(write, 'ZADD', prefix .. 'wip:' .. queue, score, id .. ':' .. name) then return false end
  if job[5] and not pcall(write, 'SADD', 'jobs:plain:' .. queue, id .. ':' .. name)
    or not pcall(redis.call, 'HSET', key, 'status', 'started', 'started_at', iso, 'worker_name', worker) then
    redis.call('ZREM', prefix .. 'wip:' .. queue, id .. ':' .. name)
    if job[5] then redis.call('SREM', 'jobs:plain:' .. queue, id .. ':' .. name) end
    return false
  end
  if job[5] then redis.call('PERSIST', key) end -- RQ's `ttl` bounds the wait in the queue only
  execution, want = execution + 1, want - 1
  local row = { id, queue, name, job[1], job[2] or '', job[3] or '', job[4] or '', job[5] and 1 or 0 }
  if job[6] then -- what few jobs have is read only of those
    local more = redis.call('HMGET', key, 'progress', 'expires_at', 'prereqs', 'context', 'schedule', 'profile')
    local waits = more[3] and redis.call('EXISTS', 'jobs:waits:' .. id) or 0
    row[9], row[10], row[11], row[12] = more[1] or '', more[2] or '', waits, more[4] or ''
    row[13], row[14] = more[5] or '', more[6] or ''
  end
  claims[#claims + 1] = row
  return true
end

-- A worker that others may declare dead (its parent has not beaten for long) must not claim: they would take the new
-- claims for old ones.
local registered = want == 0
if want > 0 then
  local seen = redis.pcall('ZSCORE', 'jobs:workers', worker)
  registered = type(seen) == 'string' and redis.call('TIME')[1] - seen < tonumber(ARGV[10])
end
if registered and want > 0 then
  for _, key in ipairs(KEYS) do
    if want <= 0 then break end
    local queue = string.sub(key, #prefix + 7) -- 'rq:' .. 'queue:'
    while want > 0 do
      local listed, ids = pcall(redis.call, 'LRANGE', key, 0, want - 1)
      if not listed or #ids == 0 then break end
      local taken = 0
      for _, id in ipairs(ids) do
        if not claim(queue, id) then break end
        taken = taken + 1
      end
      if taken > 0 then redis.call('LTRIM', key, taken, -1) end
      if taken < #ids then want = 0 end
    end
  end
end
return { refused, failed, releasing, claims, registered and 1 or 0, trimmed }
