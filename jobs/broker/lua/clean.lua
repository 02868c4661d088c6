-- Strike jobs off one queue's registries whose records have expired: finished, failed, cancelled; a slice of each.
--
-- KEYS  the finished, the failed and the canceled registry
-- ARGV  RQ's key prefix, the most to strike off each, seconds that a cancelled job is kept
-- Returns the most that was struck off one of them: as many as asked for means that there may be more.
--
-- RQ does this whenever somebody counts a registry, but for cancelled jobs, which it keeps for ever: with a score in the
-- past and a record that does not expire.
-- Parts: server

local time = redis.call('TIME')
local now, most = time[1] + time[2] / 1000000, 0

for at, registry in ipairs(KEYS) do
  local due = write('ZRANGEBYSCORE', registry, 0, string.format('%.6f', now), 'LIMIT', 0, ARGV[2])
  most = math.max(most, #due)
  for _, id in ipairs(due) do
    local key = ARGV[1] .. 'job:' .. id
    if at == 3 and redis.call('TTL', key) == -1 then
      redis.call('EXPIRE', key, ARGV[3])
      redis.call('ZADD', registry, now + ARGV[3], id)
    else
      redis.call('ZREM', registry, id)
    end
  end
end
return most
