-- Parts: server, move, enqueue, record
-- The links of a waiting job to its prerequisites. Of the script: `prefix`.
local link = {}

local MANY = 200 -- prerequisites of a job that are linked or unlinked in one call; 40 bytes each in its record

-- Whether nobody needs to wait for a prerequisite; `any`: a bad end will do. One without a record has finished and is
-- forgotten, unless it is `unwritten`, or a trace says that it did not.
function link.is_done(prerequisite, any, unwritten)
  local status = redis.pcall('HGET', prefix .. 'job:' .. prerequisite, 'status')
  if type(status) == 'table' then return any end -- its key is no hash: it can never run
  if status then return status == 'finished' or any and ENDED[status] end
  return not unwritten and (any or redis.call('EXISTS', 'jobs:gone:' .. prerequisite) == 0)
end

-- Link a job to those of its prerequisites that are not done. Returns whether there is any to wait for.
function link.wait_for(id, prerequisites, any, unwritten)
  local is_unwritten, waits = {}, false
  for _, prerequisite in ipairs(unwritten) do is_unwritten[prerequisite] = true end
  for _, prerequisite in ipairs(prerequisites) do
    if not link.is_done(prerequisite, any, is_unwritten[prerequisite]) then
      write('SADD', 'jobs:waits:' .. id, prerequisite)
      write('SADD', (any and 'jobs:followers:' or 'jobs:dependents:') .. prerequisite, id)
      waits = true
    end
  end
  return waits
end

-- Begin to link a job to the many prerequisites in `jobs:unlinked:<id>`: link.lua does it, in slices. Until then the job
-- waits for itself.
function link.later(key, id, any)
  redis.call('PERSIST', 'jobs:unlinked:' .. id)
  write('SADD', 'jobs:waits:' .. id, id)
  write('SADD', 'jobs:linking', id)
  if any then redis.call('HSET', key, 'follows', 1) end
end

-- Let a job wait for none of its prerequisites, the field of its record. Many links are left: each goes as its
-- prerequisite ends, and moves only a job that waits. Returns how many it looked at.
function link.unlink(id, prerequisites)
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
-- field of its record.
function link.start(id, queue, due, now, iso)
  local key = prefix .. 'job:' .. id
  due = tonumber(due or '') or 0
  move.all_or_none(function(undo)
    if due > now then
      move.into(undo, prefix .. 'scheduled:' .. queue, string.format('%.6f', due), id)
    else
      enqueue.one(undo, 'RPUSH', prefix .. 'queue:' .. queue, id)
    end
    move.out_of(undo, prefix .. 'deferred:' .. queue, id)
    if due > now then
      redis.call('HSET', key, 'status', 'scheduled')
    else
      redis.call('HSET', key, 'status', 'queued', 'enqueued_at', iso)
    end
  end)
end
