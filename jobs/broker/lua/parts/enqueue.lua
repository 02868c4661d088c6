-- Parts: server
-- Puts ids into the lists of queues. No other code does.
local enqueue = { many = 0, one = 0, before = 0 }

-- Put ids into a list. `push`: LPUSH for the head, RPUSH for the tail.
function enqueue.many(push, list, ids) write(push, list, unpack(ids)) end

-- Put one into a list, as part of move.all_or_none.
function enqueue.one(undo, push, list, id)
  write(push, list, id)
  undo[#undo + 1] = { 'LREM', list, push == 'LPUSH' and 1 or -1, id }
end

-- Put one before another that is in the list, as part of move.all_or_none.
function enqueue.before(undo, list, other, id)
  write('LINSERT', list, 'BEFORE', other, id)
  undo[#undo + 1] = { 'LREM', list, 1, id }
end
