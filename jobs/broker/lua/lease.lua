-- Take or renew a lease. Only its owner can renew or free it; it ends by itself when its owner does.
--
-- KEYS  the lease
-- ARGV  the owner's token, milliseconds to hold it (0 frees it)
-- Returns 1 when the caller holds it now.
-- Parts: server

allow_writes_when_full() -- duties go on there
local owner = redis.pcall('GET', KEYS[1])
-- What is no text, or does not end, is no owner's, and is replaced.
if type(owner) == 'string' and owner ~= ARGV[1] and redis.call('PTTL', KEYS[1]) ~= -1 then return 0 end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
