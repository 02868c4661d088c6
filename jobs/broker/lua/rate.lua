-- Take a start of a rate, for a part of a job or for a view.
--
-- ARGV  1 the limit, as a line of a job's field `limits`   2 seconds that the caller would wait
-- Returns the seconds until it may start. Up to those of the caller the start is taken, else nothing is.
local prefix, iso = '', '' -- nothing of a job is touched
-- Parts: server
-- Rare parts: admit

local limit = rare.admit.read(ARGV[1])[1]
local seconds = rare.admit.wait_for(limit, tonumber(ARGV[2]))
return string.format('%.6f', seconds)
