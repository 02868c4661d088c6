-- Count a failed attempt under the fingerprint of its error.
--
-- KEYS  the fingerprints by when they were last seen, the record of this one, the counts of this step of time
-- ARGV  1 fingerprint   2 now (seconds)   3 error   4 frame   5 message   6 command   7 release   8 job
--       9 the most fingerprints   10 seconds to keep a fingerprint   11 seconds to keep a step   12 the most labels of a step
--
-- Beyond the most fingerprints, those that were not seen for longest go, a hundred a call.
-- Parts: server

local all, record, step = unpack(KEYS)
local fingerprint, now, label = ARGV[1], ARGV[2], ARGV[1] .. '|' .. ARGV[3] .. '|' .. ARGV[6]

write('HSETNX', record, 'first', now)
redis.call('HSETNX', record, 'first_release', ARGV[7])
redis.call('HSET', record, 'error', ARGV[3], 'frame', ARGV[4], 'message', ARGV[5], 'command', ARGV[6],
  'release', ARGV[7], 'job', ARGV[8], 'last', now)
redis.call('HINCRBY', record, 'count', 1)
redis.call('EXPIRE', record, ARGV[10])
write('ZADD', all, now, fingerprint)
redis.call('EXPIRE', all, ARGV[10])
if write('HLEN', step) < tonumber(ARGV[12]) or redis.call('HEXISTS', step, label) == 1 then
  redis.call('HINCRBY', step, label, 1)
  redis.call('EXPIRE', step, ARGV[11])
end

local over = redis.call('ZCARD', all) - tonumber(ARGV[9])
if over > 0 then
  for _, oldest in ipairs(redis.call('ZRANGE', all, 0, math.min(over, 100) - 1)) do
    redis.call('DEL', 'jobs:error:' .. oldest, 'jobs:retried:' .. oldest)
    redis.call('ZREM', all, oldest)
  end
end
