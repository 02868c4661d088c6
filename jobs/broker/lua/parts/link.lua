-- Parts: server, ended
-- The links of a waiting job to its prerequisites. Of the script: `prefix`.
local link = { is_done = 0, wait_for = 0, later = 0 }

-- Whether an event of a batch has been fired: `batch:<id>:<event>` stands for it among the prerequisites of its callback. One
-- that is gone fires no more, and holds nobody back.
local function is_fired(batch, event, unwritten)
  local header = redis.pcall('HMGET', 'jobs:batch:' .. batch, event, 'created')
  if header.err or not header[2] then return not unwritten end
  return header[1]
end

-- Whether nobody needs to wait for a prerequisite; `any`: a bad end will do. One without a record has finished and is
-- forgotten, unless it is `unwritten`, or a trace says that it did not.
function link.is_done(prerequisite, any, unwritten)
  local batch, event = string.match(prerequisite, '^batch:(.*):(%a+)$')
  if batch then return is_fired(batch, event, unwritten) end
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
