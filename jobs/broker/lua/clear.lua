-- Delete the first jobs of a queue, but those that were enqueued after a time.
--
-- KEYS  the queue's list
-- ARGV  1 RQ's key prefix   2 the most jobs to look at   3 the time (ISO)   4 seconds that what is left of each is kept
--       5 now (ISO)
-- Returns how many jobs were deleted, and how many ids are gone from the list.
--
-- The list goes on from its head, so a step costs the same however long it is. Jobs that stay keep their order. It may
-- be sent twice: what is deleted is deleted.
local prefix, most, until_, keep, iso = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), ARGV[5]
local queue = string.sub(KEYS[1], #prefix + 7) -- 'rq:' .. 'queue:'
-- Parts: server, record, unlink, leave
-- Rare parts: admit

local OFF = '\0off' -- as in change.lua

local function forget(id)
  local key = prefix .. 'job:' .. id
  local read, job = pcall(redis.call, 'HMGET', key, 'status', 'prereqs', 'enqueued_at', 'woken', 'turn')
  if not read then return redis.call('TYPE', key).ok == 'hash' and 'stays' or 'gone' end
  if not job[1] then return 'gone' end -- there is no job: only its id is here
  if job[3] and job[3] > until_ then return 'stays' end
  if redis.call('EXISTS', 'jobs:waits:' .. id) == 1 then unlink.all(id, job[2]) end
  leave.job(id, queue, 'deleted')
  record.forget(id, 'deleted', keep) -- last: until then it is in its place
  if job[4] then rare.admit.off(queue, id, nil, job[4]) end
  if job[5] then rare.admit.off(queue, id, nil, job[5]) end
  return 'deleted'
end

allow_writes_when_full()
local ids, gone, deleted = write('LRANGE', KEYS[1], 0, most - 1), 0, 0
local stays = {} -- by position
for at, id in ipairs(ids) do
  local done, what = pcall(forget, id)
  stays[at] = not done or what == 'stays'
  if not stays[at] then gone = gone + 1 end
  if what == 'deleted' then deleted = deleted + 1 end
end
if gone == #ids then
  redis.call('LTRIM', KEYS[1], gone, -1)
elseif gone > 0 then
  for at = 1, #ids do
    if not stays[at] then redis.call('LSET', KEYS[1], at - 1, OFF) end
  end
  redis.call('LREM', KEYS[1], gone, OFF)
end
if rawget(rare, 'admit') then rare.admit.wake_marked() end
return { deleted, gone }
