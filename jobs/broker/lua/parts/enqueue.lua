-- Parts: server
-- Puts ids into the lists of queues. No other code does.
local enqueue = {}

-- Put one into a list, as part of move.all_or_none. `push`: LPUSH for the head, RPUSH for the tail.
function enqueue.one(undo, push, list, id)
  write(push, list, id)
  undo[#undo + 1] = { 'LREM', list, push == 'LPUSH' and 1 or -1, id }
end

-- Put many at the tail of a list. Returns how many are there, and the error that kept the others out.
function enqueue.many(list, ids)
  for first = 1, #ids, 1000 do -- `unpack` fills Lua's stack, which holds a few thousand values
    local placed, reason = pcall(write, 'RPUSH', list, unpack(ids, first, math.min(first + 999, #ids)))
    if not placed then return first - 1, reason end
  end
  return #ids
end
