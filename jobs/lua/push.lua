-- Write new jobs of one queue: all of them now in its list, or each at its time in its scheduled registry.
--
-- KEYS  the set of queues, the queue's list, the queue's scheduled registry
-- ARGV  job key prefix, queue name, time now (ISO), then for each job:
--       id, due ('' for now, else seconds since the epoch), payload, n, and n names and values of further fields
-- Returns how many were written. A job that exists is left alone, so the script may be sent twice.
local prefix, queue, now = ARGV[1], ARGV[2], ARGV[3]
local ready, written, i = {}, 0, 4
redis.call('SADD', KEYS[1], KEYS[2])
while i <= #ARGV do
  local id, due, payload, extra = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3])
  local key = prefix .. id
  if redis.call('EXISTS', key) == 0 then
    if due == '' then
      redis.call('HSET', key, 'created_at', now, 'enqueued_at', now, 'origin', queue, 'status', 'queued', 'data', payload)
      ready[#ready + 1] = id
    else
      redis.call('HSET', key, 'created_at', now, 'origin', queue, 'status', 'scheduled', 'data', payload)
      redis.call('ZADD', KEYS[3], due, id)
    end
    if extra > 0 then redis.call('HSET', key, unpack(ARGV, i + 4, i + 3 + 2 * extra)) end
    written = written + 1
  end
  i = i + 4 + 2 * extra
end
-- `unpack` fills Lua's stack, which holds a few thousand values.
for first = 1, #ready, 1000 do
  redis.call('RPUSH', KEYS[2], unpack(ready, first, math.min(first + 999, #ready)))
end
return written
