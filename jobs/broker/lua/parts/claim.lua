-- Parts: server, record, leave, commit, admit, kinds, turns
-- Claims jobs. Of the script: `prefix`, `worker`, `iso`, `now`, `idle`, `dead_limit`.
local claim = { words = false, number = 0, some = 0, is_over = false, AT_ONCE = 500 } -- AT_ONCE: jobs in one call of `some`, as in `commit`

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
    more = { job[2] or '', job[3] or '', job[4] or '', job[5] and 1 or 0, job[6] or '' }
  end
  if job[6] and string.find(job[6], '[^a]') then -- what few jobs have is read only of those
    local few = redis.call('HMGET', key, 'progress', 'expires_at', 'prereqs', 'context', 'schedule', 'profile', 'durable',
      'batch', 'callback', 'on_failure')
    local waits = few[3] and redis.call('EXISTS', 'jobs:waits:' .. id) or 0
    more[6], more[7], more[8], more[9] = few[1] or '', few[2] or '', waits, few[4] or ''
    more[10], more[11], more[12], more[13] = few[5] or '', few[6] or '', few[7] == 'kept' and '1' or '', job.limited or ''
    more[14] = string.find(job[6], 's', 1, true) and redis.call('HGET', key, 'steps') or ''
    more[15], more[16], more[17] = few[8] or '', few[9] or '', few[10] or ''
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

-- Whether the limits of a job let this execution begin; if so, it has taken them. Notes in `job` what stands in the way.
-- Returns nothing if no thread is idle for it: it stays where it is.
local function admits(queue, id, job, member, is_idle)
  local read = redis.call('HMGET', prefix .. 'job:' .. id, 'limits', 'woken', 'lane', 'turn')
  if not read[1] then return true end
  job.limited, job.woken, job.lane, job.turn = read[1], read[2], read[3], read[4]
  job.limits = admit.read(job.limited)
  job.refusal, job.is_behind = admit.refused_by(queue, job.limits, job.woken)
  if job.refusal then return false end
  if not is_idle and #job.limits > 0 then return nil end
  admit.take(job.limits, member, worker)
  return true
end

-- It was a job's turn: the next of its kind is to be appended.
local function end_turn(queue, id, job)
  if job.turn then
    redis.call('HDEL', prefix .. 'job:' .. id, 'turn')
    admit.unmark(queue, id, job.turn)
  end
end

-- What a job noted while it waited for its limits is void now: it has begun.
local function begin_limited(queue, id, job)
  end_turn(queue, id, job)
  if job.lane or job.woken then
    redis.call('HDEL', prefix .. 'job:' .. id, 'lane', 'state', 'woken')
    if job.lane then redis.call('ZREM', prefix .. 'deferred:' .. queue, id) end -- it was in the list twice
    admit.unmark(queue, id, job.woken)
  end
end

-- A job whose limit is full, and that is not to wait.
local function discard(queue, id, job)
  local key, keep, reason = prefix .. 'job:' .. id, 86400, 'limited: ' .. job.refusal.place .. ' is full'
  write('ZADD', prefix .. 'canceled:' .. queue, math.floor(now) + keep, id)
  leave.job(id, queue, 'discarded', nil, commit.releasing)
  redis.call('HSET', key, 'status', 'canceled', 'state', 'discarded', 'ended_at', iso, 'reason', reason)
  record.note(key, cjson.encode({ event = 'discarded', at = tonumber(now), worker = worker, reason = reason }))
  redis.call('HDEL', key, 'woken', 'lane')
  redis.call('EXPIRE', key, keep)
  redis.call('EXPIRE', prefix .. 'results:' .. id, keep)
  if job.woken then admit.unmark(queue, id, job.woken) end
end

local function refuse(queue, id, job)
  end_turn(queue, id, job)
  if job.refusal.on_full == 'discard' then return discard(queue, id, job) end
  admit.hold_back(queue, id, job.refusal, job.woken)
  admit.moved = admit.moved + 1
  if job.is_behind then admit.look_again(job.refusal.place) end
end

-- Claim the first jobs of a list, with executions from that number on, `left` at the most. Returns how many ids are done
-- with, which are not all when the server refuses to write, or a job has to wait for an idle thread; and by position those
-- of them that stay in the list, because there is no room for their kind. Nothing is popped before all of it is written.
function claim.some(queue, ids, execution, left)
  local wip, before, jobs, words, most, stay = prefix .. 'wip:' .. queue, claim.number, {}, {}, #ids, {}
  for at, id in ipairs(ids) do
    if #words == 2 * left then
      most = at - 1
      break
    end
    local kind = kinds.of(id)
    stay[at] = not kinds.has_room(kind) or nil
    local job = not stay[at] and redis.pcall('HMGET', prefix .. 'job:' .. id, 'data', 'timeout', 'result_ttl', 'interruptions',
      'success_callback_name', 'more')
    jobs[at] = job
    local is_admitted = job and job[1] ~= false and not job.err
    if is_admitted then
      local member = id .. ':' .. worker .. '.' .. execution
      if job[6] and string.find(job[6], 'l', 1, true) then
        local done, answer = pcall(admits, queue, id, job, member, kinds.is_idle(kind, before + #words / 2))
        if not done or answer == nil and kind == nil then
          if not done and job.limits then admit.give(job.limits, member, worker, false) end
          most, claim.is_over = at - 1, true
          break
        end
        if answer == nil then stay[at], jobs[at] = kinds.is_full(kind), false end
        is_admitted = answer
      end
      if is_admitted then
        words[#words + 1] = string.format('%.6f', FAR + (before + #words / 2) / 100000)
        words[#words + 1] = member
        execution = execution + 1
        kinds.take(kind)
      end
    end
  end
  local member, taken = 2, 0
  local is_written = #words == 0 or pcall(write, 'ZADD', wip, unpack(words))
  for at = 1, is_written and most or 0 do
    local id, job, done = ids[at], jobs[at], true
    if stay[at] then
      -- nothing
    elseif job.refusal then
      done = pcall(refuse, queue, id, job)
    elseif job[1] then
      done = pcall(take, queue, id, string.sub(words[member], #id + 2), job)
      if done then
        member = member + 2
        if job.limits then begin_limited(queue, id, job) end
      end
    elseif job.err then -- its key is no hash
      done = pcall(leave.broken, {}, queue, id)
    else
      done = pcall(bury, queue, id)
    end
    if not done then break end
    taken = at
  end
  for at = taken + 1, most do
    local job = jobs[at]
    if job and job[1] and not job.refusal then
      redis.call('ZREM', wip, words[member])
      write('SREM', 'jobs:plain:' .. queue, words[member])
      if job.limits then admit.give(job.limits, words[member], worker, true) end
      member = member + 2
    end
  end
  return taken, stay
end
