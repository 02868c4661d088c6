-- Take a command's job from where it is and put it where a person wants it, in one step. After shared.lua.
--
-- ARGV  1 RQ's key prefix   2 job id   3 what: queue, cancel, delete, due or profile   4 now (ISO)   5 now (seconds)
--       6 the statuses from which that is possible, each between commas   7 seconds that what is left of it is kept
--       8 an event for its history, or ''   9 reason   10 LPUSH or RPUSH, for the head or the tail of its queue
--       11 another queue, or ''   12 for due: when it runs (seconds since the epoch)
-- Returns { what happened, further }: done; missing; status and the job's status, if it is not among those; held and
--       the id of the job that holds its lock.
--
-- A running job loses its claim, which fences its result off and keeps recovery away from it; its worker is told.
local prefix, id, what, iso, now, keep = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[7])
local key = prefix .. 'job:' .. id
local job = redis.call('HMGET', key, 'status', 'origin', 'prereqs', 'unique', 'worker_name', 'unique_ms', 'lacked')
local status, queue, prerequisites, lock, worker, lacked = job[1], job[2], job[3], job[4], job[5], job[7]
if not status then return { 'missing', '' } end
if not string.find(ARGV[6], ',' .. status .. ',', 1, true) then return { 'status', status } end
local REGISTRY = { scheduled = 'scheduled', deferred = 'deferred', failed = 'failed', stopped = 'failed',
  canceled = 'canceled', finished = 'finished' }

if what == 'due' then
  local scheduled, due = prefix .. 'scheduled:' .. queue, ARGV[12]
  local expires = redis.call('HGET', key, 'expires_at')
  if expires then -- it counts from when the job is due
    local later = tonumber(due) - tonumber(redis.call('ZSCORE', scheduled, id) or due)
    redis.call('HSET', key, 'expires_at', string.format('%.17g', tonumber(expires) + later))
  end
  redis.call('ZADD', scheduled, due, id)
  note(key, ARGV[8])
  return { 'done', status }
end

if what == 'profile' then
  redis.call('HSET', key, 'profile', 1, 'more', 1)
  return { 'done', status }
end

if what == 'queue' and lock and ENDED[status] then
  local holder = redis.call('GET', lock)
  local held_by = holder and holder ~= id and redis.call('HGET', prefix .. 'job:' .. holder, 'status')
  if held_by and not ENDED[held_by] then return { 'held', holder } end
  redis.call('SET', lock, id, 'PX', job[6])
end

if status == 'queued' then
  redis.call('LREM', prefix .. 'queue:' .. queue, 0, id)
elseif status == 'started' then
  for _, member in ipairs(redis.call('ZRANGE', prefix .. 'wip:' .. queue, 0, -1)) do
    if string.sub(member, 1, #id + 1) == id .. ':' then
      redis.call('ZREM', prefix .. 'wip:' .. queue, member)
      if worker then -- this execution, and none that a person's retry may have begun by the time that it hears of it
        redis.call('PUBLISH', prefix .. 'pubsub:' .. worker,
          cjson.encode({ command = 'stop-execution', job_id = id, execution_id = string.sub(member, #id + 2) }))
      end
    end
  end
elseif REGISTRY[status] then
  redis.call('ZREM', prefix .. REGISTRY[status] .. ':' .. queue, id)
end

local waits, follows = redis.call('SMEMBERS', 'jobs:waits:' .. id), false
redis.call('DEL', 'jobs:waits:' .. id)
for _, prerequisite in ipairs(prerequisites and cjson.decode(prerequisites) or {}) do
  redis.call('SREM', 'jobs:dependents:' .. prerequisite, id)
  follows = redis.call('SREM', 'jobs:followers:' .. prerequisite, id) == 1 or follows
end

if what ~= 'queue' then run_ended(key, id, what == 'cancel' and 'cancelled' or 'deleted') end
if what == 'delete' then
  redis.call('DEL', key, prefix .. 'results:' .. id)
  redis.call('SET', 'jobs:gone:' .. id, ARGV[9], 'EX', keep)
  ended(id, false)
  return { 'done', status }
end
if ARGV[8] ~= '' then note(key, ARGV[8]) end
if what == 'cancel' then
  redis.call('HSET', key, 'status', 'canceled', 'ended_at', iso, 'reason', ARGV[9])
  redis.call('HDEL', key, 'state')
  if #waits > 0 then redis.call('HSET', key, 'lacked', cjson.encode({ waits = waits, any = follows })) end
  redis.call('ZADD', prefix .. 'canceled:' .. queue, now + keep, id)
  redis.call('EXPIRE', key, keep)
  redis.call('EXPIRE', prefix .. 'results:' .. id, keep)
  ended(id, false)
else
  if ARGV[11] ~= '' then
    queue = ARGV[11]
    redis.call('HSET', key, 'origin', queue)
  end
  if status ~= 'queued' then -- a fresh budget, and no deadline; one that is moved keeps both
    redis.call('HDEL', key, 'ended_at', 'started_at', 'reason', 'state', 'progress', 'interruptions', 'survived',
      'expires_at', 'due', 'lacked')
  end
  redis.call('PERSIST', key)
  redis.call('PERSIST', prefix .. 'results:' .. id)
  -- One that was cancelled while it waited goes on waiting.
  lacked = lacked and cjson.decode(lacked)
  if lacked and wait_for(prefix .. 'job:', id, lacked.waits, lacked.any, {}) then
    redis.call('HSET', key, 'status', 'deferred')
    redis.call('ZADD', prefix .. 'deferred:' .. queue, now, id)
  else
    redis.call('HSET', key, 'status', 'queued', 'enqueued_at', iso)
    redis.call('SADD', prefix .. 'queues', prefix .. 'queue:' .. queue)
    redis.call(ARGV[10], prefix .. 'queue:' .. queue, id)
  end
end
return { 'done', status }
