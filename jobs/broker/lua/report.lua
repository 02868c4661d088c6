-- Write what a running job reports of its progress, and wake the pages that follow it.
--
-- KEYS  the claims of the job's queue, the job's record
-- ARGV  1 the job's id   2 its execution   3 the report, as JSON
-- Returns 1, or 0 if the job is no longer run by that execution: nothing is written then.
-- Parts: server, waiters

if not redis.call('ZSCORE', KEYS[1], ARGV[1] .. ':' .. ARGV[2]) then return 0 end
redis.call('HSET', KEYS[2], 'report', ARGV[3])
waiters.wake('report', ARGV[1])
return 1
