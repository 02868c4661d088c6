-- Read some workers' records, and what each runs.
--
-- KEYS  the workers' records
-- ARGV  1 RQ's key prefix   2 how many of the jobs that each runs are wanted   3... the fields to read
-- Returns for each: the values of the fields, and for each of those jobs the claim, its queue and when it began.
-- A key that is no worker's is answered with nothing.
local prefix, most, fields = ARGV[1], tonumber(ARGV[2]), {}
for i = 3, #ARGV do fields[#fields + 1] = ARGV[i] end

local function read(key)
  local record, running = redis.call('HMGET', key, unpack(fields)), {}
  for at, claim in ipairs(most > 0 and redis.call('SMEMBERS', key .. ':executions') or {}) do
    if at > most then break end
    local got, job = pcall(redis.call, 'HMGET', prefix .. 'job:' .. string.match(claim, '^[^:]*'), 'origin', 'started_at')
    running[#running + 1] = { claim, got and job[1] or '', got and job[2] or '' }
  end
  return { record, running }
end

local found = {}
for at, key in ipairs(KEYS) do
  local done, worker = pcall(read, key)
  found[at] = done and worker or {}
end
return found
