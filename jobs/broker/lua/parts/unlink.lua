-- Parts: server, move, enqueue
-- Rare parts: turns
-- Frees a waiting job of its links to prerequisites. Of the script: `prefix`.
local unlink = { all = 0, start = 0 }

local MANY = 200 -- prerequisites of a job that are linked or unlinked in one call; 40 bytes each in its record

-- Let a job wait for none of its prerequisites, the field of its record. Many links are left: each goes as its
-- prerequisite ends, and moves only a job that waits. Returns how many it looked at.
function unlink.all(id, prerequisites)
  if not prerequisites or #prerequisites > 40 * MANY then return 0 end
  local decoded, ids = pcall(cjson.decode, prerequisites)
  ids = decoded and type(ids) == 'table' and ids or {}
  for _, prerequisite in ipairs(ids) do
    if type(prerequisite) == 'string' then
      write('SREM', 'jobs:dependents:' .. prerequisite, id)
      write('SREM', 'jobs:followers:' .. prerequisite, id)
    end
  end
  return #ids
end

-- Move a job whose prerequisites are done where it belongs: to its queue, or into what is left of its wait. `due`: the
-- field of its record, and so `limits`.
function unlink.start(id, queue, due, now, iso, limits)
  local key = prefix .. 'job:' .. id
  local is_limited = false
  due = tonumber(due or '') or 0
  move.all_or_none(function(undo)
    if due > now then
      move.into(undo, prefix .. 'scheduled:' .. queue, string.format('%.6f', due), id)
    else
      is_limited = rare.turns.arrive(undo, 'RPUSH', queue, id, limits)
    end
    if not is_limited then move.out_of(undo, prefix .. 'deferred:' .. queue, id) end
    if due > now then
      redis.call('HSET', key, 'status', 'scheduled')
    elseif not is_limited then
      redis.call('HSET', key, 'status', 'queued', 'enqueued_at', iso)
    end
  end)
end
