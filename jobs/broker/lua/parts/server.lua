-- The server: its clock, and writes to it.

-- A full server allows a script every write after one that needs no memory. This begins the scripts that free memory or
-- need as much as before, and those without which living workers would be declared dead.
local function allow_writes_when_full() redis.call('DEL', 'jobs:none') end

-- The server's clock, in seconds. Workers' clocks may differ from it, and from each other.
local function clock()
  local time = redis.call('TIME')
  return tonumber(time[1] .. '.' .. string.format('%06d', time[2]))
end

-- Write to a key whose type is known. A key of another type holds nothing of ours or RQ's, and would refuse every write:
-- it is put aside, as `jobs:aside:<key>`, where the doctor finds it, and written anew.
local function write(command, key, ...)
  local done, answer = pcall(redis.call, command, key, ...)
  if done then return answer end
  local text = type(answer) == 'table' and answer.err or tostring(answer) -- a table from Redis 7 on
  if not string.find(text, 'WRONGTYPE', 1, true) then error(answer, 0) end
  redis.call('RENAME', key, 'jobs:aside:' .. key)
  if redis.call('TYPE', 'jobs:aside').ok ~= 'hash' then redis.call('DEL', 'jobs:aside') end
  redis.call('HSET', 'jobs:aside', key, redis.call('TIME')[1])
  return redis.call(command, key, ...)
end
