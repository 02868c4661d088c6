-- The recurring entries that are due by the server's clock, and that clock; the earliest first.
--
-- KEYS  rq-scheduler's set of entries by their next time
-- ARGV  the most to return
-- Returns the time (seconds, as text), then id and time of each.
-- Parts: server

local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', time[2])
local due = write('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', 0, ARGV[1])
return { now, unpack(due) }
