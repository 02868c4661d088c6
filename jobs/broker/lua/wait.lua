-- Read how a job has ended. If it has not, note that a process waits for it: the script that ends the job wakes it.
--
-- KEYS  the processes that wait for the job, a set; the job's record; its results
-- ARGV  1 the job's id   2 the process, or '' to read only   3 seconds for which it is noted
-- Returns { over, status, state, reason, result_ttl, type and value of the last result }: `over` is 1 if there is nothing
--       to wait for. Of a job without a record: its status is '', `state` says how it went (`jobs:gone:<id>`), and
--       `reason` is the id of the job whose duplicate it was (`jobs:sent:<id>`).
--
-- It may be sent twice. A process sends it again from time to time, so that the note stays while it waits, and that it
-- learns of an end of which nobody has told it.
local id, process = ARGV[1], ARGV[2]
-- Parts: server, ended

local function text(value) return type(value) == 'string' and value or '' end

local job = redis.pcall('HMGET', KEYS[2], 'status', 'state', 'reason', 'result_ttl')
if job.err then return { 1, 'failed', '', 'its record is of another type', '', '', '' } end
local status, state, reason, ttl = text(job[1]), text(job[2]), text(job[3]), text(job[4])
local over, kind, value = ENDED[status] or ttl == '0', '', ''
if status == '' then
  state, reason = text(redis.pcall('GET', 'jobs:gone:' .. id)), text(redis.pcall('GET', 'jobs:sent:' .. id))
  over = state ~= '' or reason ~= ''
elseif status == 'finished' then
  local last = redis.pcall('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)
  for at = 1, last[1] and #last[1][2] or 0, 2 do
    local name = last[1][2][at]
    if name == 'type' then kind = last[1][2][at + 1] end
    if name == 'return_value' then value = last[1][2][at + 1] end
  end
end
if not over and process ~= '' and pcall(write, 'SADD', KEYS[1], process) then -- else it reads again, in a while
  redis.call('EXPIRE', KEYS[1], ARGV[3])
end
return { over and 1 or 0, status, state, reason, ttl, kind, value }
