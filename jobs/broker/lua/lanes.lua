-- Wake the lanes that are due or have room, and free the slots of dead workers: what a step that was lost, RQ's tools or a
-- death have left. Some a call.
--
-- ARGV  1 RQ's key prefix   2 now (ISO)   3 a worker whose process has ended, or ''   4 the most to look at of each kind
--       5 the place in `jobs:limited` from which lanes are looked at
-- Returns how many lanes were looked at, in `jobs:limited`; how many slots were freed; and 1 if more lanes are due.
--
-- It may be sent twice, and by several at once.
local prefix, iso, ended, most, from = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
-- Parts: server
-- Rare parts: admit

allow_writes_when_full()
local freed = 0

local function free_all(worker)
  local some = redis.pcall('SRANDMEMBER', 'jobs:holds:' .. worker, most)
  for _, hold in ipairs(some) do
    local member, place = string.match(hold, '^([^\t]*)\t(.*)$')
    if member and write('SREM', 'jobs:slots:' .. place, member) == 1 then rare.admit.look_again(place) end
    redis.call('SREM', 'jobs:holds:' .. worker, hold)
    freed = freed + 1
  end
  if redis.call('EXISTS', 'jobs:holds:' .. worker) == 0 then redis.call('SREM', 'jobs:holders', worker) end
end

if ended ~= '' then free_all(ended) end
if redis.call('EXISTS', 'jobs:holders') == 1 then
  local is_silent = redis.call('EXISTS', 'jobs:silence') == 1
  for _, worker in ipairs(write('SRANDMEMBER', 'jobs:holders', most)) do
    if not is_silent and not rare.admit.is_alive(worker) then
      free_all(worker)
    elseif redis.call('EXISTS', 'jobs:holds:' .. worker) == 0 then
      redis.call('SREM', 'jobs:holders', worker)
    end
  end
end
rare.admit.wake_due(most)
local places = write('ZRANGE', 'jobs:limited', from, from + most - 1)
for _, place in ipairs(places) do rare.admit.look_again(place) end
rare.admit.wake_marked()
return { #places, freed, tonumber(rare.admit.next_due()) == 0 and 1 or 0 }
