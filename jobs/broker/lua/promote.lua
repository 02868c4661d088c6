-- Move due jobs of one queue from its scheduled registry to its list, in order of due time, a slice a call. Those whose
-- record says `front` go to its head.
--
-- KEYS  the scheduled registry, the queue's list
-- ARGV  RQ's key prefix, now (ISO), the most to move
-- Returns how many were due in this slice: as many as asked for means that there may be more.
local time = redis.call('TIME')
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', time[1] .. '.' .. string.format('%06d', time[2]),
  'LIMIT', 0, ARGV[3])
for _, id in ipairs(due) do
  local key = ARGV[1] .. 'job:' .. id
  local known = redis.call('HMGET', key, 'status', 'front')
  if known[1] then
    redis.call('HSET', key, 'status', 'queued', 'enqueued_at', ARGV[2])
    redis.call(known[2] and 'LPUSH' or 'RPUSH', KEYS[2], id)
  end
  redis.call('ZREM', KEYS[1], id)
end
return #due
