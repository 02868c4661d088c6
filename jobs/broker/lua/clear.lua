-- Delete the first jobs of a queue, but those that were enqueued after a time. After shared.lua.
--
-- KEYS  the queue's list
-- ARGV  1 RQ's key prefix   2 the most jobs to look at   3 the time (ISO)   4 seconds that what is left of each is kept
-- Returns how many jobs were deleted, and how many ids are gone from the list.
--
-- The list goes on from its head, so a step costs the same however long it is. Jobs that stay keep their order. It may
-- be sent twice: what is deleted is deleted.
local prefix, most, until_, keep = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])

local function forget(id)
  local key = prefix .. 'job:' .. id
  local read, job = pcall(redis.call, 'HMGET', key, 'status', 'prereqs', 'enqueued_at')
  if not read or not job[1] then return 'gone' end -- the key is no job's, or there is none: only its id is here
  if job[3] and job[3] > until_ then return 'stays' end
  local decoded, prerequisites = pcall(cjson.decode, job[2] or '[]')
  for _, prerequisite in ipairs(decoded and prerequisites or {}) do
    write('SREM', 'jobs:dependents:' .. prerequisite, id)
    write('SREM', 'jobs:followers:' .. prerequisite, id)
  end
  run_ended(key, id, 'deleted')
  redis.call('DEL', key, prefix .. 'results:' .. id, 'jobs:waits:' .. id)
  redis.call('SET', 'jobs:gone:' .. id, 'deleted', 'EX', keep)
  ended(id, false)
  return 'deleted'
end

local ids, stay, deleted = write('LRANGE', KEYS[1], 0, most - 1), {}, 0
for _, id in ipairs(ids) do
  local what = forget(id)
  if what == 'stays' then stay[#stay + 1] = id end
  if what == 'deleted' then deleted = deleted + 1 end
end
local gone = #ids - #stay
if gone > 0 then
  redis.call('LTRIM', KEYS[1], #ids, -1)
  for at = #stay, 1, -1 do redis.call('LPUSH', KEYS[1], stay[at]) end
end
return { deleted, gone }
