-- A prerequisite has ended: those that waited for nothing else go to their queues, a slice a call. After shared.lua.
--
-- KEYS  the set of those that wait for it
-- ARGV  RQ's key prefix, the prerequisite's id, the most to look at, now (ISO), now (seconds)
-- Returns how many are left, and the ids that are no longer waiting.
--
-- It may be sent twice, and by several at once: who is through leaves the set last. A prerequisite that somebody has
-- revived meanwhile has not ended any more: those that are left wait for its next end.
local prefix, prerequisite, iso, now = ARGV[1], ARGV[2], ARGV[4], tonumber(ARGV[5])
local started = {}
local status = redis.call('HGET', prefix .. 'job:' .. prerequisite, 'status')
if status and not ENDED[status] then
  redis.call('SREM', 'jobs:releasing', KEYS[1])
  return { 0, started }
end

local function release(id)
  local key = prefix .. 'job:' .. id
  redis.call('SREM', 'jobs:waits:' .. id, prerequisite)
  if redis.call('EXISTS', 'jobs:waits:' .. id) == 0 then
    local job = redis.call('HMGET', key, 'status', 'origin', 'due')
    if job[1] == 'deferred' then -- else a person has been here
      start(prefix, id, key, job[2], job[3], iso, now)
      redis.call('ZREM', prefix .. 'deferred:' .. job[2], id)
      started[#started + 1] = id
    end
  end
end

for _, id in ipairs(redis.call('SRANDMEMBER', KEYS[1], ARGV[3])) do
  if pcall(release, id) then redis.call('SREM', KEYS[1], id) end
end
local left = redis.call('SCARD', KEYS[1])
if left == 0 then redis.call('SREM', 'jobs:releasing', KEYS[1]) end
return { left, started }
