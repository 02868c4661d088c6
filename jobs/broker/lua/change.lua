-- Take a command's job from where it is and put it where a person wants it, in one step; or several jobs, each by itself.
--
-- ARGV  1 RQ's key prefix   2 job id   3 what: queue, cancel, delete, due or profile; again, to queue a step of a flow that
--       is to run again, once
--       4 the statuses from which that is possible, each between commas   5 seconds that what is left of it is kept
--       6 an event for its history, or ''   7 reason, or the flow's id   8 LPUSH or RPUSH, for the head or the tail of its queue
--       9 another queue, or ''   10 for due: when it runs (seconds since the epoch)   11 now (ISO)   12 what `later` said
--       of these jobs before, or ''   13 '1' to go past limits   14... ids of further jobs
-- Returns { what happened, further } of each job, one after the other: done; missing; status and the job's status, if it
--       is not among those; limited, if it waits for a limit that only `forced` passes; held and the id of the job that holds its lock; linking, if it is not linked to all of its
--       prerequisites yet (link.lua); error and what the server said; later, where it needs another call: it stands far
--       from the others in a long list, they had many links, or its claim is searched for in slices, and this is how far
--       (score and queue).
--
-- A running job loses its claim, which fences its result off and keeps recovery away from it; its worker is notified.
local prefix, what, keep, iso, is_forced = ARGV[1], ARGV[3], tonumber(ARGV[5]), ARGV[11], ARGV[13] == '1'
local flow = what == 'again' and ARGV[7] -- whose step runs again
if flow then what = 'queue' end
-- Parts: server, move, enqueue, ended, record, link, unlink, leave
-- Rare parts: admit, batch, turns

local OFF = '\0off' -- no job's id: it replaces in a list the ids that are about to be removed
local REGISTRY = { scheduled = 'scheduled', deferred = 'deferred', failed = 'failed', stopped = 'failed',
  canceled = 'canceled', finished = 'finished' }
local LOOKED_AT, CLAIMS_LOOKED_AT = 5000, 1500 -- ids of a list, and claims, that are read to find some: some milliseconds
local AT_AN_END = 20000 -- ids of a list that the server compares in a fraction of a millisecond
local LATER, ABSENT = -1, -2
local standing = {} -- by id: the position in its list of each of several queued jobs, LATER or ABSENT
local leaving = {} -- by list: those of them that leave it once all are changed
local searches = {} -- by queue whose claims had to be searched: the claims found by id, and where the search ended
local links = 0 -- to prerequisites, of the jobs changed by this call

local function possible(status) return string.find(ARGV[4], ',' .. status .. ',', 1, true) end

-- Going through a long list for each of many jobs takes the square of their number. A change of many jobs reads them
-- off the list as they stand there, so they are found about the first of them, and all go in one pass. A server older
-- than 6.0.6, or a key that is no list, raises: one by one, then.
local function find(list, ids)
  local first = redis.call('LPOS', list, ids[1], 'MAXLEN', AT_AN_END)
    or redis.call('LPOS', list, ids[1], 'RANK', -1, 'MAXLEN', AT_AN_END) or redis.call('LPOS', list, ids[1])
  local wanted, left = {}, #ids
  for _, id in ipairs(ids) do standing[id], wanted[id] = LATER, true end
  if not first then
    standing[ids[1]] = ABSENT
    return
  end
  local from = math.max(0, first - 2 * #ids)
  local start, ends = from, false
  while left > 0 and not ends and start < from + LOOKED_AT do
    local some = redis.call('LRANGE', list, start, start + 999)
    for at, id in ipairs(some) do
      if wanted[id] then standing[id], wanted[id], left = start + at - 1, nil, left - 1 end
    end
    start, ends = start + #some, #some < 1000
  end
  if from == 0 and ends then
    for id in pairs(wanted) do standing[id] = ABSENT end
  end
end

-- From the end that is nearer.
local function take_off(list, ids)
  for _, id in ipairs(ids) do redis.call('LSET', list, standing[id], OFF) end
  local is_near_head = standing[ids[1]] < redis.call('LLEN', list) / 2
  redis.call('LREM', list, is_near_head and #ids or -#ids, OFF)
end

-- Seconds since the epoch of a time as RQ writes it; nothing for any other text.
local function seconds_of(text)
  local y, m, d, h, min, s = string.match(text or '', '^(%d+)-(%d+)-(%d+)T(%d+):(%d+):([%d.]+)Z$')
  if not y then return nil end
  y, m = tonumber(y), tonumber(m)
  if m < 3 then y, m = y - 1, m + 12 end
  local leap_days = math.floor(y / 4) - math.floor(y / 100) + math.floor(y / 400)
  local days = 365 * y + leap_days + math.floor((153 * m - 457) / 5) + d - 719469
  return ((days * 24 + h) * 60 + min) * 60 + s
end

-- Search claims of a queue, once for all jobs of this call, from the last one or from where the last call ended.
local function search(queue)
  local wip, by_id, upper = prefix .. 'wip:' .. queue, { [ARGV[2]] = {} }, '+inf'
  for i = 14, #ARGV do by_id[ARGV[i]] = {} end
  local score, searched = string.match(ARGV[12], '^(%S+) (.*)$')
  if searched == queue then upper = '(' .. score end
  local some, ended_at = write('ZREVRANGEBYSCORE', wip, upper, '-inf', 'LIMIT', 0, CLAIMS_LOOKED_AT), nil
  if #some == CLAIMS_LOOKED_AT then
    ended_at = redis.call('ZSCORE', wip, some[#some])
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', wip, ended_at, ended_at)) do some[#some + 1] = member end
  end
  for _, member in ipairs(some) do
    local found = by_id[string.sub(member, 1, (string.find(member, ':', 1, true) or 1) - 1)]
    if found then found[#found + 1] = member end
  end
  searches[queue] = { by_id, ended_at }
end

-- The claims of a running job. Its record says when it was claimed, and so does their score (FAR in the part `claim`).
-- If RQ's code has written the record, the claims of the queue are searched. Returns the claims; if the search has to go on,
-- nothing, and how far it came.
local function claims_of(id, queue, started_at)
  local at, found = seconds_of(started_at), {}
  if at and ARGV[12] == '' then
    for _, member in ipairs(write('ZRANGEBYSCORE', prefix .. 'wip:' .. queue, 8000000000 + at - 0.001, 8000000001 + at)) do
      if string.sub(member, 1, #id + 1) == id .. ':' then found[#found + 1] = member end
    end
    if #found > 0 then return found end
  end
  if not searches[queue] then search(queue) end
  local by_id, ended_at = searches[queue][1], searches[queue][2]
  if #by_id[id] == 0 and ended_at then return nil, ended_at .. ' ' .. queue end
  return by_id[id]
end

-- Take a job out of the place that its status names, as part of move.all_or_none. One of several queued jobs leaves its
-- list later, with the others.
local function take_out(undo, id, status, queue, target, claimed)
  if status == 'queued' and not standing[id] then
    local list = prefix .. 'queue:' .. queue
    local last = what == 'queue' and target == queue -- in the same list, to whose tail it has just been added
    if write('LREM', list, last and 1 or 0, id) > 0 then undo[#undo + 1] = { 'LPUSH', list, id } end
  elseif status == 'started' then
    for _, member in ipairs(claimed) do
      move.out_of(undo, prefix .. 'wip:' .. queue, member)
      write('SREM', 'jobs:plain:' .. queue, member)
    end
  elseif REGISTRY[status] then
    move.out_of(undo, prefix .. REGISTRY[status] .. ':' .. queue, id)
  end
end

local function keep_for_good(undo, key)
  local left = redis.call('PTTL', key)
  redis.call('PERSIST', key)
  if left > 0 then undo[#undo + 1] = { 'PEXPIRE', key, left } end
end

local function reschedule(key, id, queue)
  local scheduled, due = prefix .. 'scheduled:' .. queue, ARGV[10]
  local before, expires = write('ZSCORE', scheduled, id), redis.call('HGET', key, 'expires_at')
  move.all_or_none(function(undo)
    write('ZADD', scheduled, due, id)
    undo[1] = before and { 'ZADD', scheduled, before, id } or { 'ZREM', scheduled, id }
    if expires then -- it counts from when the job is due
      redis.call('HSET', key, 'expires_at', string.format('%.17g', expires + (due - (before or due))))
    end
  end)
  record.note(key, ARGV[6])
end

-- What a cancelled job lacked, if its record says it as this script writes it.
local function read_lacked(text)
  local read, lacked = pcall(cjson.decode, text or '')
  if not read or type(lacked) ~= 'table' or not (lacked.many or type(lacked.waits) == 'table') then return nil end
  for _, prerequisite in ipairs(lacked.waits or {}) do
    if type(prerequisite) ~= 'string' then return nil end
  end
  return lacked
end

local function change(id)
  local key = prefix .. 'job:' .. id
  local job = redis.call('HMGET', key, 'status', 'origin', 'prereqs', 'unique', 'worker_name', 'unique_ms', 'lacked',
    'started_at', 'limits', 'woken', 'lane', 'collapse', 'progress', 'interruptions', 'batch', 'turn')
  local status, queue, prerequisites, lock, worker, lacked = job[1], job[2], job[3], job[4], job[5], job[7]
  if flow then
    local again = rare.batch.take_again(flow, id, not status or not possible(status))
    if not again then return { 'status', status or '' } end
    if again ~= '' then lacked = again end
  end
  if not status then return { 'missing', '' } end
  local lane, woken = status == 'deferred' and job[11] or nil, status == 'queued' and job[10] or nil
  if not possible(lane and what == 'queue' and ARGV[9] ~= '' and 'queued' or status) then return { 'status', status } end
  if lane and what == 'queue' and ARGV[9] == '' and not is_forced then return { 'limited', lane } end
  if status == 'queued' and standing[id] == LATER or links > MANY then return { 'later', '' } end
  if prerequisites and status ~= 'canceled' and redis.call('EXISTS', 'jobs:unlinked:' .. id) == 1 then
    return { 'linking', '' }
  end
  local claimed, searched = {}, nil
  if status == 'started' then claimed, searched = claims_of(id, queue, job[8]) end
  if searched then return { 'later', searched } end

  if what == 'due' then
    reschedule(key, id, queue)
    return { 'done', status }
  end

  if what == 'profile' then
    redis.call('HSET', key, 'profile', 1)
    record.has(key, '1')
    return { 'done', status }
  end

  if what == 'queue' and lock and string.find(job[6] or '', '^[1-9]%d*$') and #job[6] < 16 and ENDED[status] then
    local holder = redis.pcall('GET', lock)
    local held_by = type(holder) == 'string' and holder ~= id and redis.pcall('HGET', prefix .. 'job:' .. holder, 'status')
    if type(held_by) == 'string' and not ENDED[held_by] then return { 'held', holder } end
    redis.call('SET', lock, id, 'PX', job[6])
  end

  local target = ARGV[9] ~= '' and ARGV[9] or queue
  local now, waits, unlinked, linked_anew = clock(), 'jobs:waits:' .. id, 'jobs:unlinked:' .. id, false
  local is_limited = false
  local lacks = write('SCARD', waits)
  if job[16] then -- it is no longer in the ring of its queue
    redis.call('HDEL', key, 'turn')
    rare.admit.unmark(queue, id, job[16])
  end

  move.all_or_none(function(undo)
    if what == 'delete' then
      leave.job(id, queue, 'deleted')
      take_out(undo, id, status, queue, target, claimed)
      record.forget(id, ARGV[7], keep)
    elseif what == 'cancel' then
      move.into(undo, prefix .. 'canceled:' .. queue, now + keep, id)
      leave.job(id, queue, 'cancelled')
      take_out(undo, id, status, queue, target, claimed)
      local fields = { 'status', 'canceled', 'ended_at', iso, 'reason', ARGV[7] }
      if lacks > 0 then
        local follows = write('SISMEMBER', 'jobs:followers:' .. redis.call('SRANDMEMBER', waits), id) == 1
        fields[7], fields[8] = 'lacked', cjson.encode({ many = true, any = follows })
        if lacks > MANY then
          redis.call('RENAME', waits, unlinked)
          undo[#undo + 1] = { 'PERSIST', waits }
          undo[#undo + 1] = { 'RENAME', unlinked, waits }
          redis.call('EXPIRE', unlinked, keep)
        else
          fields[8] = cjson.encode({ waits = redis.call('SMEMBERS', waits), any = follows })
        end
      end
      redis.call('HSET', key, unpack(fields))
    else
      keep_for_good(undo, key)
      keep_for_good(undo, prefix .. 'results:' .. id)
      lacked = read_lacked(lacked) -- one that was cancelled while it waited goes on waiting
      links = links + #(lacked and lacked.waits or {})
      if lacked then undo[#undo + 1] = { 'DEL', waits } end
      if lacked and lacked.waits and redis.call('EXISTS', unlinked) == 1 then -- by a release that links in one call
        for _, prerequisite in ipairs(lacked.waits) do write('SADD', unlinked, prerequisite) end
        lacked.many = true
      end
      if lacked and lacked.many then
        undo[#undo + 1] = { 'EXPIRE', unlinked, keep }
        undo[#undo + 1] = { 'SREM', 'jobs:linking', id }
        link.later(key, id, lacked.any)
        linked_anew = true
      else
        linked_anew = lacked and link.wait_for(id, lacked.waits, lacked.any, {})
      end
      if linked_anew then
        move.into(undo, prefix .. 'deferred:' .. target, now, id)
      else
        write('SADD', prefix .. 'queues', prefix .. 'queue:' .. target)
        local in_turn = ARGV[8] == 'RPUSH' and not is_forced and job[9]
        is_limited = rare.turns.arrive(undo, ARGV[8], target, id, in_turn or nil)
      end
      if not is_limited or status ~= 'deferred' or target ~= queue then
        take_out(undo, id, status, queue, target, claimed)
      end
      if linked_anew then
        redis.call('HSET', key, 'status', 'deferred', 'origin', target)
      elseif is_limited then
        redis.call('HSET', key, 'origin', target, 'enqueued_at', iso)
      else
        redis.call('HSET', key, 'status', 'queued', 'origin', target, 'enqueued_at', iso)
      end
    end
  end)

  if status == 'queued' and (standing[id] or ABSENT) >= 0 then
    local list = prefix .. 'queue:' .. queue
    leaving[list] = leaving[list] or {}
    table.insert(leaving[list], id)
  end
  if what == 'queue' and job[9] then
    if is_forced then redis.call('HSET', key, 'woken', 'forced') else redis.call('HDEL', key, 'woken') end
  end
  if lane or woken then
    if what ~= 'delete' and not is_limited then redis.call('HDEL', key, 'lane', 'state') end
    rare.admit.off(queue, id, lane, woken)
  end
  if not linked_anew then
    redis.call('UNLINK', waits)
    if lacks > 0 then links = links + unlink.all(id, prerequisites) end
  end
  if worker then -- this execution, and none that a person's retry may have begun by the time that it hears of it
    for _, member in ipairs(claimed) do
      redis.call('PUBLISH', prefix .. 'pubsub:' .. worker,
        cjson.encode({ command = 'stop-execution', job_id = id, execution_id = string.sub(member, #id + 2) }))
    end
  end
  if what == 'delete' then return { 'done', status } end
  if what == 'queue' and ENDED[status] and job[15] then rare.batch.revive(job[15], id) end
  if flow then rare.batch.take_again(flow, id, true) end
  if what == 'cancel' then
    redis.call('HDEL', key, 'state')
    redis.call('EXPIRE', key, keep)
    redis.call('EXPIRE', prefix .. 'results:' .. id, keep)
  elseif status ~= 'queued' and not (lane and ARGV[9] ~= '') then -- a fresh budget, and no deadline; one that is moved keeps both
    redis.call('HDEL', key, 'ended_at', 'started_at', 'reason', 'state', 'progress', 'interruptions', 'survived',
      'attempts', 'expires_at', 'due', 'lacked')
    if job[12] and (ENDED[status] or job[13] or job[14]) then
      redis.call('HDEL', key, 'collapse') -- it has begun: no push changes its arguments
    end
  end
  if is_limited then redis.call('HSET', key, 'state', 'limited') end
  if ARGV[6] ~= '' then record.note(key, ARGV[6]) end
  return { 'done', status }
end

allow_writes_when_full() -- a person frees memory by it
local ids, queued = { ARGV[2] }, {}
for at = 14, #ARGV do ids[#ids + 1] = ARGV[at] end
for _, id in ipairs(ids) do
  local read, job = pcall(redis.call, 'HMGET', prefix .. 'job:' .. id, 'status', 'origin')
  if read and job[1] == 'queued' and job[2] and possible('queued') then
    queued[job[2]] = queued[job[2]] or {}
    table.insert(queued[job[2]], id)
  end
end
for queue, some in pairs(queued) do
  if not pcall(find, prefix .. 'queue:' .. queue, some) then
    for _, id in ipairs(some) do standing[id] = nil end
  end
end
local answers, failure = {}, nil
for _, id in ipairs(ids) do
  local made, answer = pcall(change, id) -- what is no job does not keep the others from it
  if not made then
    failure = answer
    answer = { 'error', type(answer) == 'table' and answer.err or tostring(answer) }
  end
  answers[#answers + 1], answers[#answers + 2] = answer[1], answer[2]
end
for list, some in pairs(leaving) do
  if not pcall(take_off, list, some) then -- one by one, then
    for _, id in ipairs(some) do redis.call('LREM', list, 1, id) end
    redis.call('LREM', list, 0, OFF)
  end
end
if rawget(rare, 'admit') then rare.admit.wake_marked() end
if failure and #ids == 1 then error(failure, 0) end
return answers
