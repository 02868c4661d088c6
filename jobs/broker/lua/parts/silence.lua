-- Parts: server

-- Whether living workers may have been silent for as long as dead ones: the server was away, it was restored from an old
-- file, its clock was set, or everything stood still. Then each worker has that many seconds to beat again.
local function is_silence(now, seconds)
  local heard = tonumber(redis.pcall('GET', 'jobs:heard')) or now
  redis.call('SET', 'jobs:heard', string.format('%.6f', now))
  if math.abs(now - heard) > tonumber(seconds) and redis.call('EXISTS', 'jobs:workers') == 1 then
    redis.call('SET', 'jobs:silence', '', 'EX', math.ceil(seconds))
    write('ZREMRANGEBYSCORE', 'jobs:workers', now + seconds, '+inf') -- beats by a clock that has been set back since
  end
  return redis.call('EXISTS', 'jobs:silence') == 1
end
