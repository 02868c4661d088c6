-- Parts: server, claim
-- Claims jobs of two kinds, each as far as there is room: async ones (the letter `a` in `more`) for the event loop, all
-- others for threads. While one kind has no room, its jobs stay where they are, and the first LOOK of a list are looked at.
local kinds = { left = nil, wanted = 0, some = 0 } -- left: 1 once a job of a kind without room was left in place

local LOOK = 100

-- How many jobs are wanted, and the room of each kind by whether it is async; nil for a worker of threads alone.
function kinds.wanted(word)
  local threads, tasks = string.match(word, '^(%d+) (%d+)$')
  if not threads then return tonumber(word), nil end
  return threads + tasks, { [false] = tonumber(threads), [true] = tonumber(tasks) }
end

-- Claim the first jobs of a list for which there is room. Returns false when the server refuses to write.
function kinds.some(queue, key, room, execution)
  while room[true] + room[false] > 0 do
    local looks = math.max(LOOK, math.min(room[true] + room[false], claim.AT_ONCE))
    local listed, ids = pcall(redis.call, 'LRANGE', key, 0, looks - 1)
    if not listed or #ids == 0 then return true end
    local chosen, last = {}, 0
    for at, id in ipairs(ids) do
      local letters = redis.pcall('HGET', prefix .. 'job:' .. id, 'more')
      local is_async = type(letters) == 'string' and string.find(letters, 'a', 1, true) ~= nil
      if room[is_async] > 0 then
        room[is_async], last = room[is_async] - 1, at
        chosen[#chosen + 1] = id
      else
        kinds.left = 1
      end
    end
    if #chosen == 0 then return true end
    local before = claim.number
    local taken = claim.some(queue, chosen, execution)
    execution = execution + claim.number - before
    if last == #chosen then
      redis.call('LTRIM', key, taken, -1)
    else
      for at = 1, taken do redis.call('LREM', key, 1, chosen[at]) end
    end
    if taken < #chosen then return false end
    if #chosen < #ids then return true end
  end
  return true
end
