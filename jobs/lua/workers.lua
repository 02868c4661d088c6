-- What workers say of themselves, and the jobs that they run.
--
-- ARGV  1 RQ's key prefix   2... names of workers
-- Returns for each: its record, names and values in turn, and its jobs: claim (`id:execution`), queue and start of each.
local prefix, found = ARGV[1], {}

local function read(worker)
  local key, running = prefix .. 'worker:' .. worker, {}
  local claims = redis.call('SMEMBERS', key .. ':executions')
  table.sort(claims)
  for _, claim in ipairs(claims) do
    local id = string.match(claim, '^[^:]*')
    local job = redis.pcall('HMGET', prefix .. 'job:' .. id, 'origin', 'started_at')
    if job.err then job = { false, false } end -- no job's record, whatever it is
    running[#running + 1] = claim
    running[#running + 1] = job[1]
    running[#running + 1] = job[2]
  end
  return { redis.call('HGETALL', key), running }
end

for i = 2, #ARGV do
  local ok, worker = pcall(read, ARGV[i])
  found[#found + 1] = ok and worker or { {}, {} } -- keys of other types are nobody's
end
return found
