-- Parts: server, move, enqueue
-- Rare parts: admit
-- Turns: jobs of a queue that share it by a key. Of the script: `prefix`.
--
-- Such a job's field `limits` has a line `s  value  weight`. The queue's own list is the ring: at most `weight` jobs of a
-- value are in it, the rest in the lane of the place `share=<value>`. When one of them leaves the list, the next of its lane
-- is appended to it. `jobs:lanes:<place>` has, by queue, the ids of those in the ring; their records name the place in the
-- field `turn`. Without a lane it expires a day after the last of them came: RQ's tools delete a job and tell nobody.
local turns = { arrive = 0, wake = 0 }

local function read(text)
  local value, weight = string.match('\n' .. (text or '') .. '\n', '\ns\t([^\t\n]*)\t(%d+)\n')
  if value then return 'share=' .. value, tonumber(weight) end
end

-- Those of a place that are in the ring, as far as that is so.
local function in_ring(place, queue)
  local found, known = {}, redis.pcall('HGET', 'jobs:lanes:' .. place, queue)
  for id in string.gmatch(type(known) == 'string' and known or '', '%S+') do
    local job = redis.pcall('HMGET', prefix .. 'job:' .. id, 'status', 'turn', 'origin')
    if job[1] == 'queued' and job[2] == place and job[3] == queue then found[#found + 1] = id end
  end
  return found
end

local function append(undo, place, queue, id, ring)
  enqueue.one(undo, 'RPUSH', prefix .. 'queue:' .. queue, id)
  redis.call('HSET', prefix .. 'job:' .. id, 'status', 'queued', 'turn', place)
  ring[#ring + 1] = id
  write('HSET', 'jobs:lanes:' .. place, queue, table.concat(ring, ' '))
end

-- Put a job into the list of its queue, or into its lane; a job without a share goes into the list. `text`: the field
-- `limits` of its record. As part of move.all_or_none. Returns whether it is in a lane, and its record says so.
function turns.arrive(undo, push, queue, id, text)
  local place, weight = read(text)
  if not place then
    enqueue.one(undo, push, prefix .. 'queue:' .. queue, id)
    return false
  end
  local ring = in_ring(place, queue)
  if #ring < weight and redis.call('EXISTS', 'jobs:lane:' .. place .. ':' .. queue) == 0 then
    append(undo, place, queue, id, ring)
    redis.call('EXPIRE', 'jobs:lanes:' .. place, 86400)
    return false
  end
  redis.call('HDEL', prefix .. 'job:' .. id, 'turn')
  rare.admit.hold_back(queue, id, { place = place })
  redis.call('PERSIST', 'jobs:lanes:' .. place)
  if #ring == 0 then rare.admit.look_again(place) end
  return true
end

local rings = {} -- of places that are woken once more

-- Append the next of a place to the lists of its queues: one of each, if the place is woken `again`. The last time all for
-- which there is room: so many turns that end in one script are given on in the order in which they were.
function turns.wake(place, again)
  local lanes, waits, before = redis.pcall('HKEYS', 'jobs:lanes:' .. place), false, rings[place] or {}
  rings[place] = again and {} or nil
  for _, queue in ipairs(lanes) do
    local ring = before[queue] or in_ring(place, queue)
    local most = again and 1 or math.huge
    while most > 0 do
      most = most - 1
      local id, text = rare.admit.head(place, queue)
      local _, weight = read(text)
      if not id or #ring >= (weight or 1) then break end
      move.all_or_none(function(undo)
        append(undo, place, queue, id, ring)
        move.out_of(undo, prefix .. 'deferred:' .. queue, id)
      end)
      redis.call('HDEL', prefix .. 'job:' .. id, 'lane', 'state')
      redis.call('LPOP', 'jobs:lane:' .. place .. ':' .. queue)
    end
    if again then rings[place][queue] = ring end
    if #ring == 0 then
      redis.call('HSET', 'jobs:lanes:' .. place, queue, '')
      rare.admit.tidy(place, queue)
    end
    if redis.call('EXISTS', 'jobs:lane:' .. place .. ':' .. queue) == 1 then waits = true end
  end
  if not waits then
    redis.call('ZREM', 'jobs:limited', place)
    redis.call('EXPIRE', 'jobs:lanes:' .. place, 86400)
  end
end
