-- Count the jobs of one kind of registry by their state, for a kind that holds jobs of several.
--
-- KEYS  the registries
-- ARGV  RQ's key prefix, the most records to read (and at most a hundred more)
-- Returns how many jobs were looked at, then a state and its number in turn.
--
-- A waiting job is blocked when a prerequisite of it will not be done by itself; of each, up to 100 are looked at.
local prefix, most, reads, looked_at, counts = ARGV[1], tonumber(ARGV[2]), 0, 0, {}
local BAD_ENDS = { failed = 1, stopped = 1, canceled = 1 }

local function is_blocked(id)
  for _, prerequisite in ipairs(redis.call('SRANDMEMBER', 'jobs:waits:' .. id, 100)) do
    reads = reads + 1
    local status = redis.call('HGET', prefix .. 'job:' .. prerequisite, 'status')
    if not status or BAD_ENDS[status] then return true end
  end
  return false
end

local function state_of(id)
  local job = redis.call('HMGET', prefix .. 'job:' .. id, 'status', 'state')
  local status, state = job[1], job[2]
  if status == 'scheduled' then return state == 'retrying' and 'retrying' or 'scheduled' end
  if status == 'canceled' then return state == 'discarded' and 'discarded' or 'cancelled' end
  if status == 'deferred' then return state == 'limited' and state or is_blocked(id) and 'blocked' or 'waiting' end
end

local function look(registry)
  local size = redis.pcall('ZCARD', registry) -- a key that is no sorted set has no jobs
  for first = 0, type(size) == 'number' and size or -1, 500 do
    for _, id in ipairs(redis.call('ZRANGE', registry, first, first + 499)) do
      if reads >= most then return end
      reads, looked_at = reads + 1, looked_at + 1
      local read, state = pcall(state_of, id) -- a key that is no hash is nobody's
      if read and state then counts[state] = (counts[state] or 0) + 1 end
    end
  end
end

for _, registry in ipairs(KEYS) do look(registry) end
local answer = { looked_at }
for state, count in pairs(counts) do
  answer[#answer + 1] = state
  answer[#answer + 1] = count
end
return answer
