-- Parts: server, move, ended, record, waiters
-- Rare parts: batch
-- The end of a job. No other code tells those that wait for it. Of the script: `prefix`.
local leave = { is_awaited = 0, job = 0, as_recorded = 0, broken = 0, trim = 0 }

-- An entry's history says how a run ended, as long as it is kept: that of a removed entry for a day.
local function tell(entry, id, outcome)
  local key, left = 'jobs:schedule:ended:' .. entry, redis.call('PTTL', 'jobs:schedule:runs:' .. entry)
  if left == -2 then return end -- it is gone
  write('HSET', key, id, outcome)
  if left > 0 then redis.call('PEXPIRE', key, left) end
end

-- Whether anything waits for any of some jobs: other jobs, or processes. One look for all of them.
function leave.is_awaited(ids)
  for first = 1, #ids, 500 do -- `unpack` fills Lua's stack, which holds a few thousand values
    local keys = {}
    for at = first, math.min(first + 499, #ids) do
      local id, n = ids[at], #keys
      keys[n + 1], keys[n + 2] = 'jobs:dependents:' .. id, 'jobs:followers:' .. id
      keys[n + 3], keys[n + 4] = prefix .. 'job:' .. id .. ':dependents', 'jobs:waiters:' .. id
    end
    if redis.call('EXISTS', unpack(keys)) > 0 then return true end
  end
  return false
end

-- A job has ended: finished, dead, discarded, cancelled or deleted. Processes that wait for it are woken: by the time that
-- they read its record, this script is over. Jobs that wait for it are to be released, after this script and in slices.
-- Until that is done the set of them stands in `jobs:releasing`, which recovery drains. `followers` wait for any end, `dependents` for a good one; and RQ's own code has dependents.
--
-- `entry`: the recurring entry whose run it is, or ''; `kept`: whether the outbox has the job until now; without an
-- entry the job's record says both, and `batches`, the ids of the batches whose member it is. `releasing`: a list to which
-- the new members of `jobs:releasing` are added. Returns whether RQ's code has dependents to release.
function leave.job(id, queue, outcome, entry, releasing, kept, batches)
  local key, dependents, followers = prefix .. 'job:' .. id, 'jobs:dependents:' .. id, 'jobs:followers:' .. id
  local plain, has_plain, members, waiting = key .. ':dependents', false, {}, 'jobs:waiters:' .. id
  if redis.call('EXISTS', dependents, followers, plain, waiting) > 0 then
    if redis.call('EXISTS', waiting) == 1 then
      waiters.wake('end', id)
      redis.call('DEL', waiting)
    end
    if outcome == 'finished' and redis.call('EXISTS', dependents) == 1 then members[1] = dependents end
    if redis.call('EXISTS', followers) == 1 then members[#members + 1] = followers end
    has_plain = outcome == 'finished' and redis.call('EXISTS', plain) == 1
    if has_plain then members[#members + 1] = 'rq:' .. queue .. ':' .. id end
    for _, member in ipairs(members) do
      write('SADD', 'jobs:releasing', member)
      if releasing then releasing[#releasing + 1] = member end
    end
  end
  if not entry then
    local job = redis.call('HMGET', key, 'schedule', 'durable', 'batch')
    entry, kept, batches = job[1], job[2] == 'kept', job[3]
  end
  if entry and entry ~= '' then tell(entry, id, outcome) end
  if kept then write('SADD', 'jobs:outbox:ended', id) end
  if batches then rare.batch.leave(batches, id, outcome, releasing) end
  return has_plain
end

-- The end of a plain job as RQ's code has recorded it: finished and perhaps forgotten, or ended badly. Returns whether
-- it has ended; nil if its key is no hash.
function leave.as_recorded(id, queue, entry, releasing)
  local status = redis.pcall('HGET', prefix .. 'job:' .. id, 'status')
  if type(status) == 'table' then return nil end
  local is_forgotten = not status and redis.call('EXISTS', 'jobs:gone:' .. id) == 0
  if not is_forgotten and not ENDED[status or ''] then return false end
  local OUTCOMES = { finished = 'finished', canceled = 'discarded' }
  leave.job(id, queue, is_forgotten and 'finished' or OUTCOMES[status] or 'dead', entry, releasing)
  return true
end

-- A job whose key is no hash can never run. It is shown among the dead. As part of move.all_or_none.
function leave.broken(undo, queue, id) move.into(undo, prefix .. 'failed:' .. queue, '9999999999', id) end

-- More dead jobs than a queue keeps: the oldest go, some a call. Returns how many.
function leave.trim(queue, most)
  local registry, gone = prefix .. 'failed:' .. queue, 0
  local over = redis.call('ZCARD', registry) - most
  if over <= 0 then return 0 end
  for _, id in ipairs(redis.call('ZRANGE', registry, 0, math.min(over, 100) - 1)) do
    record.forget(id, 'trimmed', 86400)
    redis.call('ZREM', registry, id)
    gone = gone + 1
  end
  return gone
end
