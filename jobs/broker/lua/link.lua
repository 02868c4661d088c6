-- Link a waiting job to prerequisites of which it has too many for one call; a slice a call.
--
-- KEYS  the set of those that are not linked yet
-- ARGV  1 RQ's key prefix   2 the job's id   3 the most to link   4 now (ISO)
-- Returns how many are left, and the id of the job if it waits for nothing any more.
--
-- Until all are linked the job waits for itself, so it cannot start early; and it stands in `jobs:linking`, so a parent
-- goes on if the client that wrote the job is gone. It may be sent twice, and by several at once.
local prefix, id, key, iso = ARGV[1], ARGV[2], ARGV[1] .. 'job:' .. ARGV[2], ARGV[4]
-- Parts: server, link, unlink

local waits, started = 'jobs:waits:' .. id, {}
local read, job = pcall(redis.call, 'HMGET', key, 'status', 'origin', 'due', 'follows', 'limits')
if not read and redis.call('TYPE', key).ok == 'hash' then error(job, 0) end
if not read or job[1] ~= 'deferred' then -- changed by RQ's code or by a release that links in one call; or no job
  if job[1] == 'canceled' then
    redis.call('EXPIRE', KEYS[1], 86400) -- as long as a cancelled job is kept: a retry lets it wait again
  else
    redis.call('UNLINK', KEYS[1], waits)
  end
  redis.call('SREM', 'jobs:linking', id)
  return { 0, started }
end

local linked = {}
for _, prerequisite in ipairs(write('SRANDMEMBER', KEYS[1], ARGV[3])) do
  if prerequisite ~= id and not link.is_done(prerequisite, job[4], false) then
    -- The link first: if the server refuses the second write, nobody waits for an end that is never reported.
    write('SADD', (job[4] and 'jobs:followers:' or 'jobs:dependents:') .. prerequisite, id)
    write('SADD', waits, prerequisite)
  end
  linked[#linked + 1] = prerequisite
end
if #linked > 0 then redis.call('SREM', KEYS[1], unpack(linked)) end
local left = redis.call('SCARD', KEYS[1])
if left == 0 then
  write('SREM', waits, id)
  if redis.call('EXISTS', waits) == 0 then
    unlink.start(id, job[2], job[3], clock(), ARGV[4], job[5]) -- or later, by a parent
    started[1] = id
  end
  redis.call('HDEL', key, 'follows')
  redis.call('SREM', 'jobs:linking', id)
end
return { left, started }
