-- Add up the minutes of an hour that has ended; and, in turn, all that was ever counted. After shared.lua.
--
-- KEYS  the hour's sum, the total, the number of the last hour that is in it, then the counts of its minutes
-- ARGV  the number of the hour, seconds to keep its sum, '1' to add it to the total
-- Returns the hour's sum. It may be run twice: an hour is added up once, and is in the total once.
if redis.call('EXISTS', KEYS[1]) == 0 then
  for i = 4, #KEYS do
    local counted = write('HGETALL', KEYS[i])
    for at = 1, #counted, 2 do redis.call('HINCRBY', KEYS[1], counted[at], counted[at + 1]) end
  end
  redis.call('HSETNX', KEYS[1], '', 0) -- an hour without any is known, too
  redis.call('EXPIRE', KEYS[1], ARGV[2])
end
local sum = write('HGETALL', KEYS[1])
if ARGV[3] == '1' and tonumber(ARGV[1]) > tonumber(write('GET', KEYS[3]) or '0') then
  for at = 1, #sum, 2 do
    if sum[at] ~= '' then write('HINCRBY', KEYS[2], sum[at], sum[at + 1]) end
  end
  redis.call('SET', KEYS[3], ARGV[1])
end
return sum
