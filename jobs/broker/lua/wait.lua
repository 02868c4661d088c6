-- Read how a job or a batch has ended. If it has not, note that a process waits for it: the script that ends it wakes the process.
--
-- KEYS  the processes that wait for the job, a set; the job's record; its results
-- ARGV  1 the job's id, or `batch:<id>`   2 the process, or '' to read only   3 seconds for which it is noted
-- Returns { over, status, state, reason, result_ttl, type and value of the last result }: `over` is 1 if there is nothing
--       to wait for. Of a job without a record: its status is '', `state` says how it went (`jobs:gone:<id>`), and
--       `reason` is the id of the job whose duplicate it was (`jobs:sent:<id>`). Of a batch: its status is 'open', 'ended' or,
--       without a record, ''; `state` is the worst state of its members.
--
-- It may be sent twice. A process sends it again from time to time, so that the note stays while it waits, and that it
-- learns of an end of which nobody has told it.
local id, process = ARGV[1], ARGV[2]
-- Parts: server, ended
-- Rare parts: batch

local function text(value) return type(value) == 'string' and value or '' end

-- If the server refuses the write, the process reads again in a while.
local function note()
  if process ~= '' and pcall(write, 'SADD', KEYS[1], process) then redis.call('EXPIRE', KEYS[1], ARGV[3]) end
end

local batch = string.match(id, '^batch:(.*)$')
if batch then
  local is_written = rare.batch.read(batch).is_written
  local outcome = is_written and rare.batch.outcome(id)
  if not outcome then note() end
  return { outcome and 1 or 0, is_written and (outcome and 'ended' or 'open') or '', outcome or '', '', '', '', '' }
end

local job = redis.pcall('HMGET', KEYS[2], 'status', 'state', 'reason', 'result_ttl')
if job.err then return { 1, 'failed', '', 'its record is of another type', '', '', '' } end
local status, state, reason, ttl = text(job[1]), text(job[2]), text(job[3]), text(job[4])
local over, kind, value = ENDED[status] or ttl == '0', '', ''
if status == '' then
  local sent = redis.pcall('GET', 'jobs:sent:' .. id)
  state, reason = text(redis.pcall('GET', 'jobs:gone:' .. id)), text(sent)
  over = state ~= '' or type(sent) == 'string' -- a durable job that was here
elseif status == 'finished' then
  local last = redis.pcall('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)
  for at = 1, last[1] and #last[1][2] or 0, 2 do
    local name = last[1][2][at]
    if name == 'type' then kind = last[1][2][at + 1] end
    if name == 'return_value' then value = last[1][2][at + 1] end
  end
end
if not over then note() end
return { over and 1 or 0, status, state, reason, ttl, kind, value }
