-- Write how far a running job has come in its steps, while its claim is held.
--
-- ARGV  1 RQ's key prefix   2 job id   3 execution   4 queue   5 its field `steps`   6 '1' if the attempt has made progress
--       7... names and values of further fields
-- Returns 1; 0 if the claim is not held any more, and then nothing is written.
--
-- It may be sent twice. An attempt that makes progress does not kill its workers: what was suspected is survived.
local prefix, id, execution, queue = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
-- Parts: server, record

allow_writes_when_full() -- it needs as much memory as before
local key = prefix .. 'job:' .. id
if not write('ZSCORE', prefix .. 'wip:' .. queue, id .. ':' .. execution) then return 0 end
if redis.call('TYPE', key).ok ~= 'hash' then return 0 end
redis.call('HSET', key, 'steps', ARGV[5], unpack(ARGV, 7))
record.has(key, 's')
local interruptions = ARGV[6] == '1' and redis.call('HGET', key, 'interruptions')
if interruptions then redis.call('HSET', key, 'survived', interruptions) end
return 1
