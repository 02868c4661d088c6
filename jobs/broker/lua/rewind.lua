-- Forget steps of a job that does not run.
--
-- ARGV  1 RQ's key prefix   2 job id   3 the statuses in which that is possible, each between commas   4 its field `steps` as
--       it was read   5 the field as it is to be   6 an event for its history
-- Returns what happened, and the job's status: done; missing; status, if it is not among those; changed, if the field has
--       changed since it was read.
local prefix, id = ARGV[1], ARGV[2]
-- Parts: server, record

allow_writes_when_full() -- it needs no more memory than before
local key = prefix .. 'job:' .. id
local job = redis.call('HMGET', key, 'status', 'steps')
local status = job[1]
if not status then return { 'missing', '' } end
if not string.find(ARGV[3], ',' .. status .. ',', 1, true) then return { 'status', status } end
if (job[2] or '') ~= ARGV[4] then return { 'changed', status } end
redis.call('HSET', key, 'steps', ARGV[5])
record.has(key, 's')
record.note(key, ARGV[6])
return { 'done', status }
