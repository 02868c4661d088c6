-- Parts: server, record, leave
-- Claims a job. Of the script: `prefix`, `worker`, `iso`, `now`.
local claim = { claims = {} }

-- A wip score that no clean-up reaches, since heartbeats alone decide that a claim is dead; the order of claims is
-- kept in it, because recovery gives them back in that order.
local FAR = 8000000000 + now

-- A job without a payload: deleted meanwhile, so that only its id was left in the list; or its record has lost it.
local function bury(queue, id, key)
  if redis.call('EXISTS', key) == 0 then return end
  local time = math.floor(now) + 180 * 86400
  write('ZADD', prefix .. 'failed:' .. queue, time, id)
  leave.job(id, queue, 'dead', nil, commit.releasing)
  redis.call('HSET', key, 'status', 'failed', 'ended_at', iso, 'reason', 'PayloadError: Its record has no payload.')
  record.note(key,
    cjson.encode({ event = 'failed', at = tonumber(now), worker = worker, reason = 'Its record has no payload.' }))
  redis.call('EXPIREAT', key, time)
end

-- Mark a job as taken, as the execution of that number. Returns whether its id may leave the list, which is not so when
-- the server refuses to write, and whether it was claimed. Nothing is popped before all of it is written.
function claim.one(queue, id, execution)
  local key = prefix .. 'job:' .. id
  local read, job = pcall(redis.call, 'HMGET', key, 'data', 'timeout', 'result_ttl', 'interruptions',
    'success_callback_name', 'more')
  if not read then return (pcall(leave.broken, {}, queue, id)), false end
  if not job[1] then return (pcall(bury, queue, id, key)), false end
  local claims, name = claim.claims, worker .. '.' .. execution
  local score = string.format('%.6f', FAR + #claims / 100000)
  if not pcall(write, 'ZADD', prefix .. 'wip:' .. queue, score, id .. ':' .. name) then return false, false end
  if job[5] and not pcall(write, 'SADD', 'jobs:plain:' .. queue, id .. ':' .. name)
    or not pcall(redis.call, 'HSET', key, 'status', 'started', 'started_at', iso, 'worker_name', worker) then
    redis.call('ZREM', prefix .. 'wip:' .. queue, id .. ':' .. name)
    if job[5] then redis.call('SREM', 'jobs:plain:' .. queue, id .. ':' .. name) end
    return false, false
  end
  if job[5] then redis.call('PERSIST', key) end -- RQ's `ttl` bounds the wait in the queue only
  local row = { id, queue, name, job[1], job[2] or '', job[3] or '', job[4] or '', job[5] and 1 or 0 }
  if job[6] then -- what few jobs have is read only of those
    local more = redis.call('HMGET', key, 'progress', 'expires_at', 'prereqs', 'context', 'schedule', 'profile')
    local waits = more[3] and redis.call('EXISTS', 'jobs:waits:' .. id) or 0
    row[9], row[10], row[11], row[12] = more[1] or '', more[2] or '', waits, more[4] or ''
    row[13], row[14] = more[5] or '', more[6] or ''
  end
  claims[#claims + 1] = row
  return true, true
end
