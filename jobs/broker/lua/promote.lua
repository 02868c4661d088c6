-- Move due jobs of one queue from its scheduled registry to its list, in order of due time, a slice a call. Those whose
-- record says `front` go to its head. After shared.lua.
--
-- KEYS  the scheduled registry, the queue's list, its failed registry
-- ARGV  RQ's key prefix, now (ISO), the most to move
-- Returns how many are no longer in the registry: as many as asked for means that there may be more.
--
-- Each job is moved by itself. One whose key is no hash can never run: it is shown among the dead.
local time = redis.call('TIME')
local due = write('ZRANGEBYSCORE', KEYS[1], '-inf', time[1] .. '.' .. string.format('%06d', time[2]),
  'LIMIT', 0, ARGV[3])
local moved, failure = 0, nil

local function promote(id)
  local key = ARGV[1] .. 'job:' .. id
  local known = redis.pcall('HMGET', key, 'status', 'front')
  if known.err then
    write('ZADD', KEYS[3], '9999999999', id)
  elseif known[1] then
    redis.call('HSET', key, 'status', 'queued', 'enqueued_at', ARGV[2])
    write(known[2] and 'LPUSH' or 'RPUSH', KEYS[2], id)
  end
  redis.call('ZREM', KEYS[1], id)
end

for _, id in ipairs(due) do
  local done, answer = pcall(promote, id)
  if done then moved = moved + 1 else failure = failure or answer end
end
if failure and moved == 0 then error(type(failure) == 'table' and failure.err or failure) end
return moved
