-- What several scripts do alike. Put before them; each has its own KEYS and ARGV.

local HISTORY = 100 -- events kept on a job; the oldest go first
local ENDED = { finished = true, failed = true, canceled = true, stopped = true } -- statuses of jobs that have

-- Write to a key whose type is known. A key of another type holds nothing of ours or RQ's, and would refuse every write:
-- it is put aside, as `jobs:aside:<key>`, where the doctor finds it, and written anew.
local function write(command, key, ...)
  local answer = redis.pcall(command, key, ...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  if not string.find(answer.err, 'WRONGTYPE', 1, true) then error(answer.err) end
  redis.call('RENAME', key, 'jobs:aside:' .. key)
  if redis.call('TYPE', 'jobs:aside').ok ~= 'hash' then redis.call('DEL', 'jobs:aside') end
  redis.call('HSET', 'jobs:aside', key, redis.call('TIME')[1])
  return redis.call(command, key, ...)
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

-- An entry's history says how a run ended, while the entry is there.
local function entry_ended(entry, id, outcome)
  local key = 'jobs:schedule:ended:' .. entry
  if write('SISMEMBER', 'jobs:schedule', entry) == 1 then
    write('HSET', key, id, outcome)
  end
end

-- If the job is a run of a recurring entry, its history says how it ended.
local function run_ended(key, id, outcome)
  local entry = redis.call('HGET', key, 'schedule')
  if entry then entry_ended(entry, id, outcome) end
end

-- Link a job to those of its prerequisites that are not done; `any`: a bad end will do. Those without a record have
-- finished and are forgotten, but for the `unwritten`, and for those of which a trace says that they did not. Returns
-- whether there is any to wait for. `records` is how the keys of jobs begin.
local function wait_for(records, id, prerequisites, any, unwritten)
  local is_unwritten, waits = {}, false
  for _, prerequisite in ipairs(unwritten) do is_unwritten[prerequisite] = true end
  for _, prerequisite in ipairs(prerequisites) do
    local status = redis.call('HGET', records .. prerequisite, 'status')
    local done
    if status then
      done = status == 'finished' or any and ENDED[status]
    else
      done = not is_unwritten[prerequisite] and (any or redis.call('EXISTS', 'jobs:gone:' .. prerequisite) == 0)
    end
    if not done then
      write('SADD', 'jobs:waits:' .. id, prerequisite)
      write('SADD', (any and 'jobs:followers:' or 'jobs:dependents:') .. prerequisite, id)
      waits = true
    end
  end
  return waits
end

-- Put a job whose prerequisites are done where it belongs: in its queue, or for what is left of its wait.
local function start(prefix, id, key, queue, due, iso, now)
  if due and due ~= '' and tonumber(due) > now then
    redis.call('HSET', key, 'status', 'scheduled')
    write('ZADD', prefix .. 'scheduled:' .. queue, due, id)
  else
    redis.call('HSET', key, 'status', 'queued', 'enqueued_at', iso)
    write('RPUSH', prefix .. 'queue:' .. queue, id)
  end
end
