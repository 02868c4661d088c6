-- Parts: server
-- Moves a job from one place to another. A place is a list or a registry, and the status of the job names it: the new
-- place is written first and the status last, so that a job stays in its old place if the server refuses a write.
local move = { all_or_none = 0, into = 0, out_of = 0 }

-- Make several writes, all of them or none: `writes(undo, ...)` appends to `undo` the command that reverses each.
function move.all_or_none(writes, ...)
  local undo = {}
  local done, answer = pcall(writes, undo, ...)
  if done then return answer end
  for at = #undo, 1, -1 do redis.call(unpack(undo[at])) end
  error(answer, 0)
end

-- Put a job into a registry, as part of all_or_none.
function move.into(undo, registry, score, id)
  write('ZADD', registry, score, id)
  undo[#undo + 1] = { 'ZREM', registry, id }
end

-- Take a job, or its claim, out of a registry, as part of all_or_none.
function move.out_of(undo, registry, member)
  local score = write('ZSCORE', registry, member)
  if not score then return end
  redis.call('ZREM', registry, member)
  undo[#undo + 1] = { 'ZADD', registry, score, member }
end
