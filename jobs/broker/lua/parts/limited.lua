-- Parts: server, record, leave, commit
-- Rare parts: admit
-- The claim of a job with limits, or with a turn. Of the script: `prefix`, `worker`, `iso`, `now`.
local limited = { admits = 0, begin = 0, refuse = 0 }

-- Whether the limits of a job let this execution begin; if so, it has taken them. Notes in `job` what stands in the way.
-- Returns nothing if no thread is idle for it: it stays where it is.
function limited.admits(queue, id, job, member, is_idle)
  local read = redis.call('HMGET', prefix .. 'job:' .. id, 'limits', 'woken', 'lane', 'turn')
  if not read[1] then return true end
  job.limited, job.woken, job.lane, job.turn = read[1], read[2], read[3], read[4]
  job.limits = rare.admit.read(job.limited)
  job.refusal, job.is_behind = rare.admit.refused_by(queue, job.limits, job.woken)
  if job.refusal then return false end
  if not is_idle and #job.limits > 0 then return nil end
  rare.admit.take(job.limits, member, worker)
  return true
end

-- It was a job's turn: the next of its kind is to be appended.
local function end_turn(queue, id, job)
  if job.turn then
    redis.call('HDEL', prefix .. 'job:' .. id, 'turn')
    rare.admit.unmark(queue, id, job.turn)
  end
end

-- What a job noted while it waited for its limits is void now: it has begun.
function limited.begin(queue, id, job)
  end_turn(queue, id, job)
  if job.lane or job.woken then
    redis.call('HDEL', prefix .. 'job:' .. id, 'lane', 'state', 'woken')
    if job.lane then redis.call('ZREM', prefix .. 'deferred:' .. queue, id) end -- it was in the list twice
    rare.admit.unmark(queue, id, job.woken)
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
  if job.woken then rare.admit.unmark(queue, id, job.woken) end
end

function limited.refuse(queue, id, job)
  end_turn(queue, id, job)
  if job.refusal.on_full == 'discard' then return discard(queue, id, job) end
  rare.admit.hold_back(queue, id, job.refusal, job.woken)
  rare.admit.moved = rare.admit.moved + 1
  if job.is_behind then rare.admit.look_again(job.refusal.place) end
end
