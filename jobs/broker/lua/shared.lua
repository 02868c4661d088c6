-- What several scripts do alike. Put before them; each has its own KEYS and ARGV.

local HISTORY = 100 -- events kept on a job; the oldest go first
local OFF = '\0off' -- no job's id: it replaces in a list the ids that are about to be removed
local MANY = 200 -- prerequisites of a job that are linked or unlinked in one call; 40 bytes each in its record
local ENDED = { finished = true, failed = true, canceled = true, stopped = true } -- statuses of jobs that have

-- A full server allows a script every write after one that needs no memory. This begins the scripts that free memory or
-- need as much as before, and those without which living workers would be declared dead.
local function allow_writes_when_full() redis.call('DEL', 'jobs:none') end

-- The server's clock, in seconds. Workers' clocks may differ from it, and from each other.
local function clock()
  local time = redis.call('TIME')
  return tonumber(time[1] .. '.' .. string.format('%06d', time[2]))
end

-- Write to a key whose type is known. A key of another type holds nothing of ours or RQ's, and would refuse every write:
-- it is put aside, as `jobs:aside:<key>`, where the doctor finds it, and written anew.
local function write(command, key, ...)
  local done, answer = pcall(redis.call, command, key, ...)
  if done then return answer end
  local text = type(answer) == 'table' and answer.err or tostring(answer) -- a table from Redis 7 on
  if not string.find(text, 'WRONGTYPE', 1, true) then error(answer, 0) end
  redis.call('RENAME', key, 'jobs:aside:' .. key)
  if redis.call('TYPE', 'jobs:aside').ok ~= 'hash' then redis.call('DEL', 'jobs:aside') end
  redis.call('HSET', 'jobs:aside', key, redis.call('TIME')[1])
  return redis.call(command, key, ...)
end

-- Whether living workers may have been silent for as long as dead ones: the server was away, it was restored from an old
-- file, its clock was set, or everything stood still. Then each worker has that many seconds to beat again.
local function is_silence(now, seconds)
  local heard = tonumber(redis.pcall('GET', 'jobs:heard')) or now
  redis.call('SET', 'jobs:heard', string.format('%.6f', now))
  if math.abs(now - heard) > tonumber(seconds) and redis.call('EXISTS', 'jobs:workers') == 1 then
    redis.call('SET', 'jobs:silence', '', 'EX', math.ceil(seconds))
    write('ZREMRANGEBYSCORE', 'jobs:workers', now + seconds, '+inf') -- beats by a clock that has been set back since
  end
  return redis.call('EXISTS', 'jobs:silence') == 1
end

-- Make several writes, all of them or none: `writes(undo)` appends to `undo` the command that reverses each.
--
-- A job has a place (a list or a registry) and a status that names it. When a job moves, the new place is written first
-- and the status last: if the server refuses a write in between, the job stays in its old place.
local function all_or_none(writes)
  local undo = {}
  local done, answer = pcall(writes, undo)
  if done then return answer end
  for at = #undo, 1, -1 do redis.call(unpack(undo[at])) end
  error(answer, 0)
end

-- Put a job into a queue's list, as part of all_or_none. `push`: LPUSH for its head, RPUSH for its tail.
local function put_into_list(undo, push, list, id)
  write(push, list, id)
  undo[#undo + 1] = { 'LREM', list, push == 'LPUSH' and 1 or -1, id }
end

-- Put a job into a registry, as part of all_or_none.
local function put_into_registry(undo, registry, score, id)
  write('ZADD', registry, score, id)
  undo[#undo + 1] = { 'ZREM', registry, id }
end

-- Take a job, or its claim, out of a registry, as part of all_or_none.
local function take_from_registry(undo, registry, member)
  local score = write('ZSCORE', registry, member)
  if not score then return end
  redis.call('ZREM', registry, member)
  undo[#undo + 1] = { 'ZADD', registry, score, member }
end

-- Note an event, a line of JSON, in a job's history.
local function note(key, event)
  local known = redis.call('HGET', key, 'history')
  if known then
    event = known .. '\n' .. event
    local _, breaks = string.gsub(event, '\n', '')
    for _ = HISTORY, breaks do event = string.sub(event, string.find(event, '\n', 1, true) + 1) end
  end
  redis.call('HSET', key, 'history', event)
end

-- A job has ended: those that wait for it are to be released, after this script and in slices. Until that is done the
-- set of them stands in `jobs:releasing`, which recovery drains. `followers` wait for any end, `dependents` for a good
-- one. Returns the sets, for a worker that releases them at once.
local function ended(id, finished)
  local sets = {}
  for _, set in ipairs(finished and { 'jobs:dependents:' .. id, 'jobs:followers:' .. id } or { 'jobs:followers:' .. id }) do
    if redis.call('EXISTS', set) == 1 then
      write('SADD', 'jobs:releasing', set)
      sets[#sets + 1] = set
    end
  end
  return sets
end

-- An entry's history says how a run ended, as long as it is kept: that of a removed entry for a day.
local function entry_ended(entry, id, outcome)
  local key, left = 'jobs:schedule:ended:' .. entry, redis.call('PTTL', 'jobs:schedule:runs:' .. entry)
  if left == -2 then return end -- it is gone
  write('HSET', key, id, outcome)
  if left > 0 then redis.call('PEXPIRE', key, left) end
end

-- If the job is a run of a recurring entry, its history says how it ended.
local function run_ended(key, id, outcome)
  local entry = redis.call('HGET', key, 'schedule')
  if entry then entry_ended(entry, id, outcome) end
end

-- Move a job whose prerequisites are done where it belongs, as part of all_or_none: to its queue, or into what is left of
-- its wait. `due`: the field of its record.
local function start(undo, prefix, id, key, queue, due, now, iso)
  due = tonumber(due or '') or 0
  if due > now then
    put_into_registry(undo, prefix .. 'scheduled:' .. queue, string.format('%.6f', due), id)
  else
    put_into_list(undo, 'RPUSH', prefix .. 'queue:' .. queue, id)
  end
  take_from_registry(undo, prefix .. 'deferred:' .. queue, id)
  if due > now then
    redis.call('HSET', key, 'status', 'scheduled')
  else
    redis.call('HSET', key, 'status', 'queued', 'enqueued_at', iso)
  end
end

-- Whether nobody needs to wait for a prerequisite; `any`: a bad end will do. One without a record has finished and is
-- forgotten, unless it is `unwritten`, or a trace says that it did not. `records` is how the keys of jobs begin.
local function is_done(records, prerequisite, any, unwritten)
  local status = redis.pcall('HGET', records .. prerequisite, 'status')
  if type(status) == 'table' then return any end -- its key is no hash: it can never run
  if status then return status == 'finished' or any and ENDED[status] end
  return not unwritten and (any or redis.call('EXISTS', 'jobs:gone:' .. prerequisite) == 0)
end

-- Link a job to those of its prerequisites that are not done. Returns whether there is any to wait for.
local function wait_for(records, id, prerequisites, any, unwritten)
  local is_unwritten, waits = {}, false
  for _, prerequisite in ipairs(unwritten) do is_unwritten[prerequisite] = true end
  for _, prerequisite in ipairs(prerequisites) do
    if not is_done(records, prerequisite, any, is_unwritten[prerequisite]) then
      write('SADD', 'jobs:waits:' .. id, prerequisite)
      write('SADD', (any and 'jobs:followers:' or 'jobs:dependents:') .. prerequisite, id)
      waits = true
    end
  end
  return waits
end

-- Let a job wait for none of its prerequisites, the field of its record. Many links are left: each goes as its
-- prerequisite ends, and moves only a job that waits. Returns how many it looked at.
local function unlink(id, prerequisites)
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

-- Begin to link a job to the many prerequisites in `jobs:unlinked:<id>`: link.lua does it, in slices. Until then the job
-- waits for itself.
local function link_later(key, id, any)
  redis.call('PERSIST', 'jobs:unlinked:' .. id)
  write('SADD', 'jobs:waits:' .. id, id)
  write('SADD', 'jobs:linking', id)
  if any then redis.call('HSET', key, 'follows', 1) end
end
