-- Take, renew or leave a place among the doormen of a group: of the workers that serve the same queues.
--
-- KEYS  1 the group's doormen   2 the group's bell   3 the worker's own bell   4... the queue lists, to leave
-- ARGV  1 worker   2 seconds that a place is kept without being renewed, '0' to leave
--       3 to leave: how many jobs a worker runs at once
-- Returns, to take or renew: 1 if the worker is a doorman now. To leave: how many workers were rung for.
--
-- Nothing but the speed of a wake-up depends on it: a doorman takes no job, and each waiter looks for jobs now and then.
-- Parts: server

local PLACES = 2 -- one would do; two, so that one may die
local MOST = 100 -- workers that are rung for at once; each of them rings for more
allow_writes_when_full()
local doormen, bell, own, worker, seconds = KEYS[1], KEYS[2], KEYS[3], ARGV[1], tonumber(ARGV[2])
local now = clock()

if seconds > 0 then
  write('ZREMRANGEBYSCORE', doormen, '-inf', now)
  redis.call('ZREMRANGEBYSCORE', doormen, now + seconds + 1, '+inf') -- by a clock that has been set back since
  local held = redis.call('ZSCORE', doormen, worker) or redis.call('ZCARD', doormen) < PLACES
  if held then
    redis.call('ZADD', doormen, string.format('%.6f', now + seconds), worker)
    redis.call('EXPIRE', doormen, math.ceil(seconds))
  end
  -- A token that lies here found no waiter. From here on there is a doorman, who sees what it was for.
  write('LTRIM', bell, 1, 0)
  write('LTRIM', own, 1, 0)
  return held and 1 or 0
end

local function ring(key, tokens)
  if tokens < 1 or write('LLEN', key) > 0 then return 0 end -- nobody waits there
  local words = {}
  for at = 1, tokens do words[at] = worker end
  redis.call('RPUSH', key, unpack(words))
  redis.call('EXPIRE', key, 10)
  return tokens
end

-- A worker that waits at the bell is taken from there first, so that it swallows no token while all its threads are busy.
if write('ZREM', doormen, worker) == 0 then ring(own, 1) end
local left = 0
for at = 4, #KEYS do
  local listed, jobs = pcall(redis.call, 'LLEN', KEYS[at])
  if listed then left = left + jobs end
end
local vacant = redis.call('ZCOUNT', doormen, '(' .. now, '+inf') < PLACES and 1 or 0
return ring(bell, math.min(math.max(vacant, math.ceil(left / tonumber(ARGV[3]))), MOST))
