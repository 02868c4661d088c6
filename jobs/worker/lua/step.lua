-- Commit what a worker has done and claim what it does next, in one atomic step.
--
-- KEYS  the queue lists to claim from, in the order to try them
-- ARGV  1 RQ's key prefix ('rq:')   2 worker name   3 now (ISO)   4 now (seconds)   5 jobs wanted
--       6 number of the first execution to hand out   7 key of this minute's counts   8 seconds to keep those
--       9 number of outcomes   10 seconds without a beat after which a worker is dead   11... for each outcome:
--         id, execution, queue, kind, time, label, slow, result type, result, n, n names and values of job fields
--       kind  F finished (time: result_ttl)  S scheduled (time: due)  H, T head or tail of its queue
--             D dead  C discarded (time: when to forget it, for both)  W waiting  N written by RQ's own code
--       slow  '1' when the attempt ran long enough for a beat to have written RQ's execution record
-- Returns { outcomes refused, outcomes that failed, jobs with RQ dependents, claims, registered }:
--       refused  position (from 0) of each outcome whose claim this worker no longer holds, and who took the job over
--       failed   position and error of outcomes that could not be written; their claims are still held
--       claims   id, queue, execution, payload, timeout, result_ttl, interruptions, whether RQ's own code made the job
--
-- It may be sent twice: an outcome is written only while its claim (the wip member `id:execution`) is held, and the
-- claim goes last. Each job is written by itself (pcall): a key of a wrong type or a full server stops nothing else.
local prefix, worker, iso, now = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local want, execution = tonumber(ARGV[5]), tonumber(ARGV[6])
local refused, failed, dependents, claims, counts = {}, {}, {}, {}, {}
-- A wip score that no clean-up reaches, since heartbeats alone decide that a claim is dead; the order of claims is
-- kept in it, because recovery gives them back in that order.
local FAR = 8000000000 + now

local function forget_execution(id, execution)
  redis.call('DEL', prefix .. 'execution:' .. id .. ':' .. execution)
  redis.call('ZREM', prefix .. 'executions:' .. id, execution)
  redis.call('SREM', prefix .. 'worker:' .. worker .. ':executions', id .. ':' .. execution)
end

local function commit(at, position)
  local id, execution, queue, kind, time = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local result_type, result, n = ARGV[at + 7], ARGV[at + 8], tonumber(ARGV[at + 9])
  local wip, member, key = prefix .. 'wip:' .. queue, id .. ':' .. execution, prefix .. 'job:' .. id
  if not redis.call('ZSCORE', wip, member) then
    refused[#refused + 1] = { position, redis.call('HGET', key, 'worker_name') or '' }
    return false
  end
  if kind == 'F' then
    if redis.call('EXISTS', key .. ':dependents') == 1 then dependents[#dependents + 1] = { id, queue } end
    if time == '0' and (#dependents == 0 or dependents[#dependents][1] ~= id) then
      redis.call('DEL', key)
    else
      if time == '0' then time = '60' end -- its dependents are still to be told
      redis.call('HSET', key, 'status', 'finished', 'ended_at', iso)
      redis.call('EXPIRE', key, time)
      redis.call('ZADD', prefix .. 'finished:' .. queue, now + time, id)
    end
  elseif kind == 'S' then
    redis.call('HSET', key, 'status', 'scheduled')
    redis.call('ZADD', prefix .. 'scheduled:' .. queue, time, id)
  elseif kind == 'H' or kind == 'T' then
    redis.call('HSET', key, 'status', 'queued')
    redis.call('HDEL', key, 'started_at', 'worker_name')
    redis.call(kind == 'H' and 'LPUSH' or 'RPUSH', prefix .. 'queue:' .. queue, id)
  elseif kind == 'D' then
    redis.call('HSET', key, 'status', 'failed', 'ended_at', iso)
    redis.call('ZADD', prefix .. 'failed:' .. queue, time, id)
  elseif kind == 'C' then
    redis.call('HSET', key, 'status', 'canceled', 'ended_at', iso)
    redis.call('ZADD', prefix .. 'canceled:' .. queue, time, id)
    redis.call('EXPIREAT', key, time)
  elseif kind == 'W' then
    redis.call('HSET', key, 'status', 'deferred')
    redis.call('ZADD', prefix .. 'deferred:' .. queue, now, id)
  end
  if n > 0 then redis.call('HSET', key, unpack(ARGV, at + 10, at + 9 + 2 * n)) end
  if result_type ~= '' then
    local results = prefix .. 'results:' .. id
    if result == '' then
      redis.call('XADD', results, 'MAXLEN', '10', '*', 'type', result_type, 'worker_name', worker)
    else
      redis.call('XADD', results, 'MAXLEN', '10', '*', 'type', result_type, 'worker_name', worker,
        result_type == '1' and 'return_value' or 'exc_string', result)
    end
    redis.call('EXPIRE', results, kind == 'F' and time or math.ceil(time - now))
  end
  if ARGV[at + 6] == '1' then forget_execution(id, execution) end
  redis.call('ZREM', wip, member)
  return true
end

local at = 11
for position = 0, tonumber(ARGV[9]) - 1 do
  local ok, held = true, true
  if ARGV[at + 3] ~= 'N' then ok, held = pcall(commit, at, position) end
  if not ok then
    failed[#failed + 1] = { position, type(held) == 'table' and held.err or tostring(held) }
  elseif held then
    local label = ARGV[at + 5]
    if label ~= '' then counts[label] = (counts[label] or 0) + 1 end
  end
  at = at + 10 + 2 * tonumber(ARGV[at + 9])
end
pcall(function()
  for label, count in pairs(counts) do redis.call('HINCRBY', ARGV[7], label, count) end
  if next(counts) then redis.call('EXPIRE', ARGV[7], ARGV[8]) end
end)

-- Marks a job as taken; false when the server refuses to write. Nothing is popped before all of it is written.
local function claim(queue, id)
  local key = prefix .. 'job:' .. id
  local read, job = pcall(redis.call, 'HMGET', key, 'data', 'timeout', 'result_ttl', 'interruptions', 'success_callback_name')
  if not read then -- the job's key is no hash: show it among the dead, and go on
    return (pcall(redis.call, 'ZADD', prefix .. 'failed:' .. queue, '9999999999', id))
  end
  if not job[1] then return true end -- deleted meanwhile: only its id was left in the list
  local name = worker .. '.' .. execution
  local score = string.format('%.6f', FAR + #claims / 100000)
  if not pcall(redis.call, 'ZADD', prefix .. 'wip:' .. queue, score, id .. ':' .. name) then return false end
  if not pcall(redis.call, 'HSET', key, 'status', 'started', 'started_at', iso, 'worker_name', worker) then
    redis.call('ZREM', prefix .. 'wip:' .. queue, id .. ':' .. name)
    return false
  end
  if job[5] then redis.call('PERSIST', key) end -- RQ's `ttl` bounds the wait in the queue only
  execution, want = execution + 1, want - 1
  claims[#claims + 1] = { id, queue, name, job[1], job[2] or '', job[3] or '', job[4] or '', job[5] and 1 or 0 }
  return true
end

-- A worker that others may declare dead (its parent has not beaten for long) must not claim: they would take the new
-- claims for old ones.
local registered = want == 0
if want > 0 then
  local seen = redis.call('ZSCORE', 'jobs:workers', worker)
  registered = seen and redis.call('TIME')[1] - seen < tonumber(ARGV[10])
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
return { refused, failed, dependents, claims, registered and 1 or 0 }
