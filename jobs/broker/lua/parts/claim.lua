-- Parts: server, record, leave, commit
-- Claims jobs. Of the script: `prefix`, `worker`, `iso`, `now`.
local claim = { words = false, number = 0, some = 0, AT_ONCE = 500 } -- AT_ONCE: jobs in one call of `some`, as in `commit`

-- A wip score that no clean-up reaches, since heartbeats alone decide that a claim is dead; the order of claims is
-- kept in it, because recovery gives them back in that order.
local FAR = 8000000000 + now

-- A job without a payload: deleted meanwhile, so that only its id was left in the list; or its record has lost it.
local function bury(queue, id)
  local key = prefix .. 'job:' .. id
  if redis.call('EXISTS', key) == 0 then return end
  local time, reason = math.floor(now) + 180 * 86400, 'PayloadError: Its record has no payload.'
  write('ZADD', prefix .. 'failed:' .. queue, time, id)
  leave.job(id, queue, 'dead', nil, commit.releasing)
  redis.call('HSET', key, 'status', 'failed', 'ended_at', iso, 'reason', reason)
  record.note(key,
    cjson.encode({ event = 'failed', at = tonumber(now), worker = worker, reason = 'Its record has no payload.' }))
  redis.call('EXPIREAT', key, time)
end

-- Mark a job as taken. `job`: fields of its record.
local function take(queue, id, name, job)
  local key = prefix .. 'job:' .. id
  if job[5] then
    write('SADD', 'jobs:plain:' .. queue, id .. ':' .. name)
    redis.call('PERSIST', key) -- RQ's `ttl` bounds the wait in the queue only
  end
  redis.call('HSET', key, 'status', 'started', 'started_at', iso, 'worker_name', worker)
  local more = ''
  if job[2] or job[3] or job[4] or job[5] or job[6] then
    more = { job[2] or '', job[3] or '', job[4] or '', job[5] and 1 or 0 }
  end
  if job[6] then -- what few jobs have is read only of those
    local few = redis.call('HMGET', key, 'progress', 'expires_at', 'prereqs', 'context', 'schedule', 'profile', 'durable',
      'batch', 'callback')
    local waits = few[3] and redis.call('EXISTS', 'jobs:waits:' .. id) or 0
    more[5], more[6], more[7], more[8] = few[1] or '', few[2] or '', waits, few[4] or ''
    more[9], more[10], more[11] = few[5] or '', few[6] or '', few[7] == 'kept' and '1' or ''
    more[12], more[13] = few[8] or '', few[9] or ''
  end
  local words = claim.words
  if words then
    local n = #words
    words[n + 1], words[n + 2], words[n + 3], words[n + 4], words[n + 5] = id, queue, name, job[1], more
  else
    claim.words = { id, queue, name, job[1], more }
  end
  claim.number = claim.number + 1
end

-- Claim the first jobs of a list, with executions from that number on. Returns how many ids may leave the list, which
-- are not all when the server refuses to write. Nothing is popped before all of it is written.
function claim.some(queue, ids, execution)
  local wip, before, jobs, words = prefix .. 'wip:' .. queue, claim.number, {}, {}
  for at, id in ipairs(ids) do
    local job = redis.pcall('HMGET', prefix .. 'job:' .. id, 'data', 'timeout', 'result_ttl', 'interruptions',
      'success_callback_name', 'more')
    jobs[at] = job
    if job[1] then
      words[#words + 1] = string.format('%.6f', FAR + (before + #words / 2) / 100000)
      words[#words + 1] = id .. ':' .. worker .. '.' .. execution
      execution = execution + 1
    end
  end
  if #words > 0 and not pcall(write, 'ZADD', wip, unpack(words)) then return 0 end
  local member, taken = 2, 0
  for at, id in ipairs(ids) do
    local job, done = jobs[at], nil
    if job[1] then
      done = pcall(take, queue, id, string.sub(words[member], #id + 2), job)
      if done then member = member + 2 end
    elseif job.err then -- its key is no hash
      done = pcall(leave.broken, {}, queue, id)
    else
      done = pcall(bury, queue, id)
    end
    if not done then break end
    taken = at
  end
  for at = member, #words, 2 do
    redis.call('ZREM', wip, words[at])
    write('SREM', 'jobs:plain:' .. queue, words[at])
  end
  return taken
end
