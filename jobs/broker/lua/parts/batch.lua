-- Parts: server, record
-- The members of batches: sets of ids by state, each member in one of them. Of the script: `prefix`.
--
-- `jobs:batch:<id>` says when the batch was written, its parent, and which events have been fired. A batch is complete
-- when nothing holds it open (`holds`: blocks that are still adding jobs) and no member is pending; it is successful if,
-- moreover, every member has finished. A child is a member of its parent, as `batch:<id>`; so is each callback of the
-- child once its event has been fired. All of this may be done twice.
local batch = { read = 0, place = 0, put = 0, refuses = 0, join = 0, stand_for = 0, withdraw = 0, leave = 0, settle = 0, revive = 0,
  outcome = 0, keep = 0, take_again = 0 }
do
local STATES = { 'pending', 'finished', 'dead', 'discarded', 'cancelled', 'deleted' }
local UNSUCCESSFUL = { 'dead', 'discarded', 'cancelled', 'deleted' } -- the worst first
local DEEPEST = 10 -- batches in one another
local KEPT, KEPT_DEAD = 86400, 181 * 86400 -- seconds: a day, and a day more than dead members
local listed = {} -- batches that this script need not list again
local is_cancelled = {} -- by batch that a job is to join

-- The key of the members in a state; also of `holds`, `duplicates`, `children` and `again`.
function batch.place(state, id) return 'jobs:batch:' .. state .. ':' .. id end
local place = batch.place

-- The record of a batch: whether it is written, its parent, and the events fired.
function batch.read(id)
  local header = redis.pcall('HMGET', 'jobs:batch:' .. id, 'created', 'parent', 'complete', 'success', 'dead')
  if header.err then return {} end -- its key is no hash
  return { is_written = header[1], parent = header[2], complete = header[3], success = header[4], dead = header[5] }
end

local function state_of(id, member)
  for _, state in ipairs(STATES) do
    if write('SISMEMBER', place(state, id), member) == 1 then return state end
  end
end

-- Put a member into the set of its state. The new place first: a full server leaves the member in the old one.
function batch.put(id, member, state)
  write('SADD', place(state, id), member)
  if state ~= 'pending' and write('SREM', place('pending', id), member) == 1 then return end
  for _, other in ipairs(STATES) do
    if other ~= state then write('SREM', place(other, id), member) end
  end
end

-- Whether a batch takes no more members, as a person has cancelled it while they were on their way: this one is cancelled, too.
function batch.refuses(id, member)
  if is_cancelled[id] == nil then is_cancelled[id] = redis.pcall('HGET', 'jobs:batch:' .. id, 'cancelled') == '1' end
  if not is_cancelled[id] then return false end
  write('SET', 'jobs:gone:' .. member, 'cancelled', 'EX', KEPT)
  batch.put(id, member, 'cancelled')
  return true
end

-- The worst state of the members that have not finished; nothing if all have.
local function worst(id)
  for _, state in ipairs(UNSUCCESSFUL) do
    if redis.call('EXISTS', place(state, id)) == 1 then return state end
  end
end

-- Keep what belongs to a batch for so many seconds; without a number, until it has ended.
function batch.keep(id, seconds)
  local keys = { 'jobs:batch:' .. id, place('holds', id), place('duplicates', id), place('children', id) }
  for _, state in ipairs(STATES) do keys[#keys + 1] = place(state, id) end
  for _, key in ipairs(keys) do
    if seconds then redis.call('EXPIRE', key, seconds) else redis.call('PERSIST', key) end
  end
end

-- Fire an event, once. The callback that waits for it is to be released, and keeps the parent open until it has ended.
local function fire(id, header, event, releasing)
  if header[event] then return end
  local waiting = 'jobs:dependents:batch:' .. id .. ':' .. event
  if redis.call('EXISTS', waiting) == 1 then
    if header.parent then
      for _, callback in ipairs(write('SMEMBERS', waiting)) do batch.put(header.parent, callback, 'pending') end
    end
    write('SADD', 'jobs:releasing', waiting)
    if releasing then releasing[#releasing + 1] = waiting end
  end
  write('HSET', 'jobs:batch:' .. id, event, string.format('%.6f', clock()))
end

-- Delete the callback of an event that cannot come any more.
local function drop(id, event)
  local waiting = 'jobs:dependents:batch:' .. id .. ':' .. event
  if redis.call('EXISTS', waiting) == 0 then return end
  for _, callback in ipairs(write('SMEMBERS', waiting)) do
    local job = redis.pcall('HMGET', prefix .. 'job:' .. callback, 'status', 'origin', 'durable')
    if job[1] == 'deferred' then
      if job[3] == 'kept' then write('SADD', 'jobs:outbox:ended', callback) end
      record.forget(callback, 'deleted', KEPT)
      write('ZREM', prefix .. 'deferred:' .. job[2], callback)
    end
  end
  redis.call('DEL', waiting)
end

-- Wake the processes that wait for a batch. The part `waiters` would be made at each push.
local function wake(id)
  local waiting = 'jobs:waiters:batch:' .. id
  for _, process in ipairs(write('SMEMBERS', waiting)) do
    redis.pcall('PUBLISH', 'jobs:woken:' .. process, 'end batch:' .. id)
  end
  redis.call('DEL', waiting)
end

-- See whether a batch is complete. If so, fire its events and go on with its parent.
function batch.settle(id, releasing)
  local header = batch.read(id)
  if not header.is_written or write('SCARD', place('holds', id)) + write('SCARD', place('pending', id)) > 0 then return end
  local bad = worst(id)
  fire(id, header, 'complete', releasing)
  if not bad then
    fire(id, header, 'success', releasing)
    drop(id, 'dead')
  end
  batch.keep(id, bad == 'dead' and KEPT_DEAD or KEPT)
  wake(id)
  if header.parent and state_of(header.parent, 'batch:' .. id) then
    batch.put(header.parent, 'batch:' .. id, bad or 'finished')
    batch.settle(header.parent, releasing)
  end
end

-- Fire the first death, in the batch and in every one around it.
local function report_death(id, releasing)
  for _ = 1, DEEPEST do
    local header = batch.read(id)
    if header.is_written then fire(id, header, 'dead', releasing) end
    if not header.parent then return end
    id = header.parent
  end
end

-- A new job becomes a member. The batch itself may be written later.
function batch.join(id, member)
  if write('SISMEMBER', place('finished', id), member) == 0 then write('SADD', place('pending', id), member) end
  if not listed[id] then
    listed[id] = true
    if redis.call('EXISTS', 'jobs:batch:' .. id) == 0 then write('ZADD', 'jobs:batches', 'NX', clock(), id) end
  end
end

-- A new job is the duplicate of another, which has not ended: the other one becomes a member instead. If it runs, its claim
-- does not name the batch, so the batch waits for it as a follower does.
function batch.stand_for(id, duplicate, holder)
  if write('SADD', place('duplicates', id), duplicate) == 0 then return end
  local key = prefix .. 'job:' .. holder
  local job = redis.call('HMGET', key, 'batch', 'status')
  if not string.find(' ' .. (job[1] or '') .. ' ', ' ' .. id .. ' ', 1, true) then
    redis.call('HSET', key, 'batch', job[1] and job[1] .. ' ' .. id or id)
    record.has(key, '1')
    if job[2] == 'started' then write('SADD', 'jobs:followers:' .. holder, 'batch:' .. id) end
  end
  batch.join(id, holder)
end

-- A job that could not be written is no member.
function batch.withdraw(id, member) redis.call('SREM', place('pending', id), member) end

-- A member of these batches (ids, with spaces) has ended. What has finished stays finished.
function batch.leave(ids, member, outcome, releasing)
  for id in string.gmatch(ids, '%S+') do
    local state = state_of(id, member)
    if state and (state ~= 'finished' or outcome == 'finished') then
      if outcome == 'dead' then report_death(id, releasing) end
      batch.put(id, member, outcome)
      write('SREM', place('holds', id), member)
      if write('SCARD', place('pending', id)) == 0 then batch.settle(id, releasing) end
    end
  end
end

-- A person has enqueued an ended member again: these batches are open again, and those around them.
function batch.revive(ids, member)
  for id in string.gmatch(ids, '%S+') do
    local of, each = id, member
    for _ = 1, DEEPEST do
      local header = batch.read(of)
      if not header.is_written or not state_of(of, each) then break end
      batch.put(of, each, 'pending')
      batch.keep(of, nil)
      if redis.call('HDEL', 'jobs:batch:' .. of, 'freed') == 1 then redis.call('HSET', 'jobs:batch:' .. of, 'kept', 0) end
      if not header.parent then break end
      of, each = header.parent, 'batch:' .. of
    end
  end
end

-- What a step of a flow lacks that is to run again, as JSON or ''; nothing if it is not, or not any more. `is_done`: it has
-- been enqueued, or cannot be.
function batch.take_again(id, member, is_done)
  local lacked = write('HGET', place('again', id), member)
  if is_done then redis.call('HDEL', place('again', id), member) end
  return lacked
end

-- How a member has ended, by what is left of it; nothing if it has not. `is_reported`: its end was recorded by a script of
-- ours, so one of which nothing is left has finished and is forgotten.
function batch.outcome(member, is_reported)
  local child = string.match(member, '^batch:(.*)$')
  if child then
    if not batch.read(child).is_written then return 'deleted' end
    if write('SCARD', place('holds', child)) + write('SCARD', place('pending', child)) > 0 then return nil end
    return worst(child) or 'finished'
  end
  local job = redis.pcall('HMGET', prefix .. 'job:' .. member, 'status', 'state')
  if job.err then return 'dead' end -- its key is no hash: it can never run
  if not job[1] then
    if redis.call('EXISTS', 'jobs:gone:' .. member) == 1 then return 'deleted' end
    if is_reported then return 'finished' end
    return write('SISMEMBER', 'jobs:releasing', 'jobs:followers:' .. member) == 0 and 'deleted' or nil
  end
  local OUTCOMES = { finished = 'finished', failed = 'dead', stopped = 'dead', canceled = 'cancelled' }
  return job[2] == 'discarded' and job[1] == 'canceled' and 'discarded' or OUTCOMES[job[1]]
end
end
