-- A prerequisite has ended: those that waited for nothing else go to their queues, a slice a call.
--
-- KEYS  the set of those that wait for it
-- ARGV  RQ's key prefix, the prerequisite's id, the most to look at, now (ISO)
-- Returns how many are left, and the ids that are no longer waiting.
--
-- It may be sent twice, and by several at once: who is through leaves the set last. A prerequisite that somebody has
-- revived meanwhile has not ended any more: those that are left wait for its next end.
local prefix, prerequisite, iso, started = ARGV[1], ARGV[2], ARGV[4], {}
-- Parts: server, ended, unlink
-- Rare parts: batch

local now = clock()
local status = redis.pcall('HGET', prefix .. 'job:' .. prerequisite, 'status')
if type(status) == 'string' and not ENDED[status] then
  redis.call('SREM', 'jobs:releasing', KEYS[1])
  return { 0, started }
end

local function release(id)
  local waiting = string.match(id, '^batch:(.*)$')
  if waiting then -- the prerequisite became its member while it ran
    local outcome = rare.batch.outcome(prerequisite, true)
    return outcome and rare.batch.leave(waiting, prerequisite, outcome)
  end
  write('SREM', 'jobs:waits:' .. id, prerequisite)
  if redis.call('EXISTS', 'jobs:waits:' .. id) == 0 then
    local job = redis.call('HMGET', prefix .. 'job:' .. id, 'status', 'origin', 'due', 'limits')
    if job[1] == 'deferred' then -- else a person has been here
      unlink.start(id, job[2], job[3], now, iso, job[4])
      started[#started + 1] = id
    end
  end
end

local some = redis.pcall('SRANDMEMBER', KEYS[1], ARGV[3])
if some.err then -- no set, so nobody waits in it
  redis.call('SREM', 'jobs:releasing', KEYS[1])
  return { 0, started }
end
for _, id in ipairs(some) do
  if pcall(release, id) then redis.call('SREM', KEYS[1], id) end
end
local left = redis.call('SCARD', KEYS[1])
if left == 0 then redis.call('SREM', 'jobs:releasing', KEYS[1]) end
return { left, started }
