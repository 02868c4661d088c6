-- Take a worker's name, if nobody has it.
--
-- ARGV  1 the name
-- Returns 1 when it was taken just now.
-- Parts: server

local time = redis.call('TIME')
return write('ZADD', 'jobs:workers', 'NX', time[1] .. '.' .. string.format('%06d', time[2]), ARGV[1])
