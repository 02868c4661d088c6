-- Move due jobs of one queue from its scheduled registry to its list, in order of due time, a slice a call. Those whose
-- record says `front` go to its head. After shared.lua.
--
-- KEYS  the scheduled registry, the queue's list
-- ARGV  RQ's key prefix, now (ISO), the most to move
-- Returns how many were due in this slice: as many as asked for means that there may be more.
allow_writes_when_full()
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.6f', clock()), 'LIMIT', 0, ARGV[3])
for _, id in ipairs(due) do
  local key = ARGV[1] .. 'job:' .. id
  local known = redis.call('HMGET', key, 'status', 'front')
  all_or_none(function(undo)
    if known[1] then put_into_list(undo, known[2] and 'LPUSH' or 'RPUSH', KEYS[2], id) end
    take_from_registry(undo, KEYS[1], id)
    if known[1] then redis.call('HSET', key, 'status', 'queued', 'enqueued_at', ARGV[2]) end
  end)
end
return #due
