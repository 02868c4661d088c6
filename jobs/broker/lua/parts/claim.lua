-- Parts: server, record, leave, commit
-- Rare parts: admit, kinds, limited
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
  local more, letters = '', job[6]
  if job.limited and not string.find(letters, '[^al]') then
    more = { job[2] or '', job[3] or '', job[4] or '', job[5] and 1 or 0, letters, '', '', 0, '', '', '', '', job.limited }
  elseif job[2] or job[3] or job[4] or job[5] or letters then
    more = { job[2] or '', job[3] or '', job[4] or '', job[5] and 1 or 0, letters or '' }
  end
  if letters and string.find(letters, '[^al]') then -- what few jobs have is read only of those
    local few = redis.call('HMGET', key, 'progress', 'expires_at', 'prereqs', 'context', 'schedule', 'profile', 'durable',
      'batch', 'callback', 'on_failure')
    local waits = few[3] and redis.call('EXISTS', 'jobs:waits:' .. id) or 0
    more[6], more[7], more[8], more[9] = few[1] or '', few[2] or '', waits, few[4] or ''
    more[10], more[11], more[12], more[13] = few[5] or '', few[6] or '', few[7] == 'kept' and '1' or '', job.limited or ''
    more[14] = string.find(letters, 's', 1, true) and redis.call('HGET', key, 'steps') or ''
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

-- Claim the first jobs of a list, with executions from that number on, `left` at the most. Returns how many ids are done
-- with, which are not all when the server refuses to write, or a job has to wait for an idle thread; and by position those
-- of them that stay in the list, because there is no room for their kind. Nothing is popped before all of it is written.
function claim.some(queue, ids, execution, left)
  local wip, before, jobs, words, most, stay, refused = prefix .. 'wip:' .. queue, claim.number, {}, {}, #ids, {}, 0
  local has_kinds = rawget(rare, 'kinds')
  for at, id in ipairs(ids) do
    if #words == 2 * left then
      most = at - 1
      break
    end
    local kind = nil
    if has_kinds then
      kind = rare.kinds.of(id)
      stay[at] = not rare.kinds.has_room(kind) or nil
    end
    local job = not stay[at] and redis.pcall('HMGET', prefix .. 'job:' .. id, 'data', 'timeout', 'result_ttl', 'interruptions',
      'success_callback_name', 'more')
    jobs[at] = job
    local is_admitted = job and job[1] ~= false and not job.err
    if is_admitted then
      local member = id .. ':' .. worker .. '.' .. execution
      if job[6] and string.find(job[6], 'l', 1, true) then
        local number = before + #words / 2
        local is_idle = kind == nil and number < idle or kind ~= nil and rare.kinds.is_idle(kind)
        local done, answer = pcall(rare.limited.admits, queue, id, job, member, is_idle)
        if not done or answer == nil and kind == nil then
          if not done and job.limits then rare.admit.give(job.limits, member, worker, false) end
          most, claim.is_over = at - 1, true
          break
        end
        if answer == nil then stay[at], jobs[at] = rare.kinds.is_full(kind), false end
        is_admitted = answer
        if job.refusal then
          refused = refused + 1
          if rare.admit.moved + refused == rare.admit.AT_ONCE then
            most = at
            break
          end
        end
      end
      if is_admitted then
        words[#words + 1] = string.format('%.6f', FAR + (before + #words / 2) / 100000)
        words[#words + 1] = member
        execution = execution + 1
        if kind ~= nil then rare.kinds.take(kind) end
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
      done = pcall(rare.limited.refuse, queue, id, job)
    elseif job[1] then
      done = pcall(take, queue, id, string.sub(words[member], #id + 2), job)
      if done then
        member = member + 2
        if job.limits then rare.limited.begin(queue, id, job) end
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
      if job.limits then rare.admit.give(job.limits, words[member], worker, true) end
      member = member + 2
    end
  end
  return taken, stay
end
