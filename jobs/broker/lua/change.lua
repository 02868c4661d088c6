-- Take a command's job from where it is and put it where a person wants it, in one step; or several jobs, each by itself.
-- After shared.lua.
--
-- ARGV  1 RQ's key prefix   2 job id   3 what: queue, cancel, delete, due or profile   4 now (ISO)   5 now (seconds)
--       6 the statuses from which that is possible, each between commas   7 seconds that what is left of it is kept
--       8 an event for its history, or ''   9 reason   10 LPUSH or RPUSH, for the head or the tail of its queue
--       11 another queue, or ''   12 for due: when it runs (seconds since the epoch)   13... ids of further jobs
-- Returns { what happened, further } of each job, one after the other: done; missing; status and the job's status, if it
--       is not among those; held and the id of the job that holds its lock; error and what the server said.
--
-- A running job loses its claim, which fences its result off and keeps recovery away from it; its worker is notified.
local prefix, what, iso, now, keep = ARGV[1], ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[7])
local REGISTRY = { scheduled = 'scheduled', deferred = 'deferred', failed = 'failed', stopped = 'failed',
  canceled = 'canceled', finished = 'finished' }
local OFF = '\0off' -- no job's id
local off = {} -- by id: jobs that are off their queue's list before their turn

local function possible(status) return string.find(ARGV[6], ',' .. status .. ',', 1, true) end

-- Going through a long list for each of many jobs takes the square of their number. Whoever changes many has read them
-- off the list as they stand there, so they are found about the first of them, and all go in one pass.
local function take_off(list, ids)
  local first
  for _, id in ipairs(ids) do
    local known, at = pcall(redis.call, 'LPOS', list, id)
    if not known then return end -- a server older than 6.0.6: one by one, then; so of a key that is no list
    first = at
    if first then break end
  end
  if not first then return end
  local wanted, marked = {}, 0
  for _, id in ipairs(ids) do wanted[id] = true end
  local from = math.max(0, first - 2 * #ids)
  redis.call('SREM', 'jobs:releasing', OFF) -- after a write that needs no memory a full server allows those that may
  for at, id in ipairs(redis.call('LRANGE', list, from, first + 2 * #ids)) do
    if wanted[id] then
      redis.call('LSET', list, from + at - 1, OFF)
      marked, off[id] = marked + 1, true
    end
  end
  redis.call('LREM', list, marked, OFF)
end

local function change(id)
  local key = prefix .. 'job:' .. id
  local job = redis.call('HMGET', key, 'status', 'origin', 'prereqs', 'unique', 'worker_name', 'unique_ms', 'lacked')
  local status, queue, prerequisites, lock, worker, lacked = job[1], job[2], job[3], job[4], job[5], job[7]
  if not status then return { 'missing', '' } end
  if not possible(status) then return { 'status', status } end

  if what == 'due' then
    local scheduled, due = prefix .. 'scheduled:' .. queue, ARGV[12]
    local expires = redis.call('HGET', key, 'expires_at')
    if expires then -- it counts from when the job is due
      local later = tonumber(due) - tonumber(redis.call('ZSCORE', scheduled, id) or due)
      redis.call('HSET', key, 'expires_at', string.format('%.17g', tonumber(expires) + later))
    end
    write('ZADD', scheduled, due, id)
    note(key, ARGV[8])
    return { 'done', status }
  end

  if what == 'profile' then
    redis.call('HSET', key, 'profile', 1, 'more', 1)
    return { 'done', status }
  end

  if what == 'queue' and lock and ENDED[status] then
    local holder = redis.pcall('GET', lock)
    local held_by = type(holder) == 'string' and holder ~= id and redis.pcall('HGET', prefix .. 'job:' .. holder, 'status')
    if type(held_by) == 'string' and not ENDED[held_by] then return { 'held', holder } end
    redis.call('SET', lock, id, 'PX', job[6])
  end

  if status == 'queued' then
    if not off[id] then write('LREM', prefix .. 'queue:' .. queue, 0, id) end
    off[id] = nil
  elseif status == 'started' then
    for _, member in ipairs(write('ZRANGE', prefix .. 'wip:' .. queue, 0, -1)) do
      if string.sub(member, 1, #id + 1) == id .. ':' then
        redis.call('ZREM', prefix .. 'wip:' .. queue, member)
        if worker then -- this execution, and none that a person's retry may have begun by the time that it hears of it
          redis.call('PUBLISH', prefix .. 'pubsub:' .. worker,
            cjson.encode({ command = 'stop-execution', job_id = id, execution_id = string.sub(member, #id + 2) }))
        end
      end
    end
  elseif REGISTRY[status] then
    write('ZREM', prefix .. REGISTRY[status] .. ':' .. queue, id)
  end

  local waits, follows = write('SMEMBERS', 'jobs:waits:' .. id), false
  redis.call('DEL', 'jobs:waits:' .. id)
  local decoded, needed = pcall(cjson.decode, prerequisites or '[]')
  for _, prerequisite in ipairs(decoded and needed or {}) do
    write('SREM', 'jobs:dependents:' .. prerequisite, id)
    follows = write('SREM', 'jobs:followers:' .. prerequisite, id) == 1 or follows
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
    write('ZADD', prefix .. 'canceled:' .. queue, now + keep, id)
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
        'attempts', 'expires_at', 'due', 'lacked')
    end
    redis.call('PERSIST', key)
    redis.call('PERSIST', prefix .. 'results:' .. id)
    -- One that was cancelled while it waited goes on waiting.
    lacked = lacked and cjson.decode(lacked)
    if lacked and wait_for(prefix .. 'job:', id, lacked.waits, lacked.any, {}) then
      redis.call('HSET', key, 'status', 'deferred')
      write('ZADD', prefix .. 'deferred:' .. queue, now, id)
    else
      redis.call('HSET', key, 'status', 'queued', 'enqueued_at', iso)
      write('SADD', prefix .. 'queues', prefix .. 'queue:' .. queue)
      write(ARGV[10], prefix .. 'queue:' .. queue, id)
    end
  end
  return { 'done', status }
end

if #ARGV == 12 then return change(ARGV[2]) end

local ids, queued = { ARGV[2] }, {}
for at = 13, #ARGV do ids[#ids + 1] = ARGV[at] end
for _, id in ipairs(ids) do
  local read, job = pcall(redis.call, 'HMGET', prefix .. 'job:' .. id, 'status', 'origin')
  if read and job[1] == 'queued' and job[2] and possible('queued') then
    queued[job[2]] = queued[job[2]] or {}
    table.insert(queued[job[2]], id)
  end
end
for queue, some in pairs(queued) do take_off(prefix .. 'queue:' .. queue, some) end
local answers = {}
for _, id in ipairs(ids) do
  local made, answer = pcall(change, id) -- what is no job does not keep the others from it
  if not made then answer = { 'error', type(answer) == 'table' and answer.err or tostring(answer) } end
  answers[#answers + 1], answers[#answers + 2] = answer[1], answer[2]
end
return answers
