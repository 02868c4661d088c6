-- Which of the project's lists of recurring entries the stored entries follow: the newest of which a process is alive.
--
-- KEYS  1 the lists in the order in which they first appeared, a sorted set   2 the list that is followed, a hash
--       3 the processes of this one's list by their last beat, a sorted set
-- ARGV  1 this process's list   2 its name in KEYS[3]
--       3 seconds without a beat after which a process is dead   4 seconds of silence, see is_silence
-- Returns the list that is followed, and '1' if all of its entries have been written.
--
-- The order is that of this server, not that of version numbers: a commit has none. A list whose processes are all gone
-- does not count, so that an earlier release takes over when the later one has been rolled back.
-- Parts: silence

local now, processes = clock(), 'jobs:schedule:list:'
local silence = is_silence(now, ARGV[4])
if not write('ZSCORE', KEYS[1], ARGV[1]) then
  local newest = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
  redis.call('ZADD', KEYS[1], (newest[2] or 0) + 1, ARGV[1])
  for _, list in ipairs(redis.call('ZRANGE', KEYS[1], 0, -101)) do -- a hundred are remembered, and those in use
    if redis.call('EXISTS', processes .. list) == 0 then redis.call('ZREM', KEYS[1], list) end
  end
end
write('ZADD', KEYS[3], string.format('%.6f', now), ARGV[2])
redis.call('EXPIRE', KEYS[3], ARGV[3])

local followed = write('HGET', KEYS[2], 'list')
for _, list in ipairs(redis.call('ZREVRANGEBYSCORE', KEYS[1], '+inf', '(' .. redis.call('ZSCORE', KEYS[1], ARGV[1]))) do
  if not silence then write('ZREMRANGEBYSCORE', processes .. list, '-inf', now - ARGV[3]) end
  if redis.call('EXISTS', processes .. list) == 1 or (silence and list == followed) then return { list, '' } end
end
if followed ~= ARGV[1] then
  redis.call('HSET', KEYS[2], 'list', ARGV[1])
  redis.call('HDEL', KEYS[2], 'written')
end
return { ARGV[1], redis.call('HGET', KEYS[2], 'written') and '1' or '' }
