-- Write that a worker lives, and RQ's records of what it has been running for a while.
--
-- KEYS  the worker's hash, the set of its executions
-- ARGV  1 RQ's key prefix   2 worker name   3 seconds that RQ's records live without another beat   4 seconds without
--       any beat after which no worker is declared dead for as long
--       5 number of fields of the worker's hash, names and values, then for each execution: job id, execution, queue,
--       seconds since it began
-- The time of the beat is the server's: workers' clocks may differ.
local prefix, worker, ttl = ARGV[1], ARGV[2], ARGV[3]
-- Parts: silence

allow_writes_when_full() -- a full server must not make living workers look dead
local now = clock()
is_silence(now, ARGV[4])
write('ZADD', 'jobs:workers', string.format('%.6f', now), worker)
local n = tonumber(ARGV[5])
write('HSET', KEYS[1], unpack(ARGV, 6, 5 + 2 * n))
redis.call('EXPIRE', KEYS[1], ttl)
redis.call('DEL', KEYS[2])
for i = 6 + 2 * n, #ARGV, 4 do
  local id, execution, queue, age = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3])
  local member = id .. ':' .. execution
  if type(redis.pcall('ZSCORE', prefix .. 'wip:' .. queue, member)) == 'string' then -- else it has just been committed
    local key = prefix .. 'execution:' .. member
    write('HSET', key, 'id', execution, 'job_id', id, 'worker_name', worker, 'created_at', now - age,
      'last_heartbeat', now)
    redis.call('EXPIRE', key, ttl)
    write('ZADD', prefix .. 'executions:' .. id, now + ttl, execution)
    redis.call('EXPIRE', prefix .. 'executions:' .. id, ttl)
    redis.call('SADD', KEYS[2], member)
    redis.call('EXPIRE', KEYS[2], ttl)
  end
end
return 1
