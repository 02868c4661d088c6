-- The last changes of many jobs, in one step.
--
-- KEYS  the list of changes by when they began
-- ARGV  how the keys of their records begin, the most to give
-- Returns the id and the record of each in turn, the newest first.
local found = {}
for _, id in ipairs(redis.pcall('ZREVRANGE', KEYS[1], 0, ARGV[2] - 1)) do -- of a key of another type: none
  local record = redis.pcall('HGETALL', ARGV[1] .. id)
  found[#found + 1] = id
  found[#found + 1] = record.err and {} or record
end
return found
