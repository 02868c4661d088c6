-- Parts: server, move, enqueue, record, leave
-- Rare parts: admit, turns
-- Writes outcomes. Of the script: `prefix`, `worker`, `iso`, `now`, `dead_limit`, `outcomes`, `further`.
--
-- The record of each job is written by itself. What is written for each to the same key follows in one command for all
-- of a queue, and the removal of the claims comes last: a job whose outcome could not be written keeps its claim.
local commit = { refused = {}, failed = {}, releasing = {}, trimmed = 0, one = 0, finish = 0 }

local STATUS = { F = 'finished', D = 'failed', C = 'canceled', S = 'scheduled', W = 'deferred', H = 'queued',
  T = 'queued' }
local ENDS = { F = 'finished', D = 'dead', C = 'discarded' } -- by the kind of an outcome, if the job ends with it
local AT_ONCE = 500 -- outcomes settled by one command: `unpack` fills Lua's stack, which holds a few thousand values
local is_awaited = nil -- whether anything waits for any of the jobs that end in this step
local written = {} -- executions whose outcome this script has written: their claims may still be held
local batches, size, counts = {}, 0, {} -- by queue: the outcomes that are to be settled; their number; labels

-- Whether other jobs wait for any of those that end. One look for all of them; a single one is looked at as it ends.
local function look()
  if further - outcomes == 7 then return true end
  local ids = {}
  for at = outcomes, further - 1, 7 do
    if ENDS[ARGV[at + 3]] then ids[#ids + 1] = ARGV[at] end
  end
  return leave.is_awaited(ids)
end

local NONE = {}

-- What an outcome has more: words of ARGV, by the letters that name them.
local function read_more(letters)
  if letters == '' then return NONE end
  local more = {}
  for letter in string.gmatch(letters, '.') do
    if letter == 'f' then
      more.first, more.last = further + 1, further + 2 * ARGV[further]
      further = more.last + 1
    else
      more[letter] = letter == 'x' or letter == 'k' or ARGV[further]
      if letter ~= 'x' and letter ~= 'k' then further = further + 1 end
    end
  end
  return more
end

-- Keep a result as RQ does. It is forgotten with the job.
local function keep_result(id, kind, time, more)
  local results = prefix .. 'results:' .. id
  if more.r ~= '1' then
    write('XADD', results, 'MAXLEN', '10', '*', 'type', more.r, 'worker_name', worker,
      'execution_started_at', more.b, 'execution_ended_at', now, 'exc_string', more.v)
  elseif more.v then
    write('XADD', results, 'MAXLEN', '10', '*', 'type', more.r, 'worker_name', worker, 'return_value', more.v)
  else
    write('XADD', results, 'MAXLEN', '10', '*', 'type', more.r, 'worker_name', worker)
  end
  if kind == 'S' or kind == 'T' then
    redis.call('PERSIST', results)
  else
    redis.call('EXPIRE', results, kind == 'F' and time or math.ceil(time - now))
  end
end

local function forget_execution(id, execution, queue)
  write('SREM', 'jobs:plain:' .. queue, id .. ':' .. execution)
  redis.call('DEL', prefix .. 'execution:' .. id .. ':' .. execution)
  redis.call('ZREM', prefix .. 'executions:' .. id, execution)
  redis.call('SREM', prefix .. 'worker:' .. worker .. ':executions', id .. ':' .. execution)
end

-- A job whose key is no hash any more: no outcome can be written. It is held no longer.
local function give_up(id, execution, queue)
  local kind = redis.call('TYPE', prefix .. 'job:' .. id).ok
  if kind == 'hash' or kind == 'none' then return end
  leave.broken({}, queue, id)
  redis.call('ZREM', prefix .. 'wip:' .. queue, id .. ':' .. execution)
end

local function fail(position, answer)
  commit.failed[#commit.failed + 1] = { position, type(answer) == 'table' and answer.err or tostring(answer) }
end

local function count(at)
  local label = ARGV[at + 5]
  if label ~= '' then counts[label] = (counts[label] or 0) + 1 end
end

-- What RQ's code has recorded. RQ's transaction has removed the claim, so the member of jobs:plain, which goes last,
-- tells whether this was written before.
local function write_recorded(at, entry)
  local id, execution, queue = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local key = prefix .. 'job:' .. id
  local ended = leave.as_recorded(id, queue, entry or '', commit.releasing)
  if ended == nil then
    give_up(id, execution, queue)
  elseif not ended then -- to be run again: this attempt ended by itself
    local interruptions = redis.call('HGET', key, 'interruptions')
    if interruptions then redis.call('HSET', key, 'survived', interruptions) end
  end
  if write('SREM', 'jobs:plain:' .. queue, id .. ':' .. execution) == 1 and ARGV[at + 3] == 'N' then count(at) end
end

-- Write the record of a job that is kept. Returns its new status.
local function rewrite(id, queue, key, kind, time, more)
  local status, fields = STATUS[kind], nil
  if kind == 'W' and redis.call('EXISTS', 'jobs:waits:' .. id) == 0 then
    status, fields = 'queued', { 'status', 'queued', 'enqueued_at', iso } -- the last has ended since this was decided
  elseif ENDS[kind] then
    fields = { 'status', status, 'ended_at', iso }
  else
    fields = { 'status', status }
  end
  for at = more.first or 1, more.last or 0 do fields[#fields + 1] = ARGV[at] end
  if more.l and kind == 'H' then
    fields[#fields + 1], fields[#fields + 2] = 'woken', rare.admit.back(queue, id, rare.admit.read(more.l))
  end
  if more.e and kind ~= 'F' then fields[#fields + 1], fields[#fields + 2] = 'history', record.noted(key, more.e) end
  redis.call('HSET', key, unpack(fields))
  if kind == 'F' then
    redis.call('EXPIRE', key, time)
  elseif kind == 'D' then
    redis.call('HDEL', key, 'progress', 'interruptions', 'survived', 'expires_at') -- a retry by a person begins afresh
    redis.call('EXPIREAT', key, time)
  elseif kind == 'C' then
    redis.call('EXPIREAT', key, time)
    redis.call('EXPIREAT', prefix .. 'results:' .. id, time)
  elseif kind == 'H' or kind == 'T' then
    redis.call('HDEL', key, 'started_at', 'worker_name')
  end
  if more.r then keep_result(id, kind, time, more) end
  return status
end

-- Append two words to a list of words.
local function add(lists, name, one, other)
  local words = lists[name]
  if words then
    words[#words + 1], words[#words + 2] = one, other
  else
    lists[name] = { one, other }
  end
end

local function write_outcome(at, position, more)
  local id, execution, queue, kind, time = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  if kind == 'N' then
    write_recorded(at, more.s)
    return false
  end
  local member, key, status = id .. ':' .. execution, prefix .. 'job:' .. id, nil
  if written[member] or not redis.call('ZSCORE', prefix .. 'wip:' .. queue, member) then
    local read, job = pcall(redis.call, 'HMGET', key, 'worker_name', 'status')
    commit.refused[#commit.refused + 1] = { position, read and job[1] or '', read and job[2] or '' }
    if kind == 'F' and more.e and read and job[2] == 'canceled' then record.note(key, more.e) end
    if more.x and write('SISMEMBER', 'jobs:plain:' .. queue, member) == 1 then -- RQ's code took the claim
      write_recorded(at, more.s)
    end
    return false
  end
  local ends, has_plain = ENDS[kind], false
  if ends and (is_awaited or more.s or more.k or more.g) then
    has_plain = leave.job(id, queue, ends, more.s or '', commit.releasing, more.k, more.g)
  end
  if kind ~= 'F' or time ~= '0' then
    status = rewrite(id, queue, key, kind, time, more)
  elseif has_plain then -- RQ's code reads the record to release its dependents
    time = '60'
    redis.call('EXPIRE', prefix .. 'results:' .. id, time)
    status = rewrite(id, queue, key, kind, time, more)
  end
  if more.x then forget_execution(id, execution, queue) end

  -- Nothing from here on can fail. The rest is written by settle.
  local batch = batches[queue]
  if batch then
    batch.members[#batch.members + 1] = member
    batch.positions[#batch.positions + 1] = position
  else -- made at once, as tables are dear that grow
    batch = { members = { member }, positions = { position }, forgotten = false, places = {}, heads = {}, tails = {} }
    batches[queue] = batch
  end
  if not status then
    add(batch, 'forgotten', key, prefix .. 'results:' .. id)
  elseif status == 'queued' then
    if kind == 'H' then
      batch.heads[#batch.heads + 1] = { id, tonumber(string.match(execution, '%d+$')) or 0 }
    else
      batch.tails[#batch.tails + 1] = { id, more.l }
    end
  else
    add(batch.places, status, kind == 'F' and now + time or kind == 'W' and now or time, id)
  end
  written[member] = true
  size = size + 1
  return true
end

local function last_first(one, other) return one[2] > other[2] end

local function settle(undo, queue, batch)
  for status, words in pairs(batch.places) do write('ZADD', prefix .. status .. ':' .. queue, unpack(words)) end
  if batch.places.failed then -- after all of it is written: of those that died this second one may have to go
    commit.trimmed = commit.trimmed + leave.trim(queue, dead_limit)
  end
  if batch.forgotten then redis.call('DEL', unpack(batch.forgotten)) end
  local list = prefix .. 'queue:' .. queue -- a list may hold a job twice, so this is undone if the claims do not go
  if #batch.heads > 1 then table.sort(batch.heads, last_first) end -- so that the first claimed ends at the head
  for _, head in ipairs(batch.heads) do enqueue.one(undo, 'LPUSH', list, head[1]) end
  for _, tail in ipairs(batch.tails) do
    if tail[2] then rare.turns.arrive(undo, 'RPUSH', queue, tail[1], tail[2]) else enqueue.one(undo, 'RPUSH', list, tail[1]) end
  end
  redis.call('ZREM', prefix .. 'wip:' .. queue, unpack(batch.members))
end

local function settle_all()
  for queue, batch in pairs(batches) do
    local done, answer = pcall(move.all_or_none, settle, queue, batch)
    for _, position in ipairs(batch.positions) do
      if done then count(outcomes + 7 * position) else fail(position, answer) end
    end
  end
  batches, size = {}, 0
end

-- Write the outcome of that position.
function commit.one(position)
  if position == 0 then is_awaited = look() end
  local at = outcomes + 7 * position
  local more = read_more(ARGV[at + 6])
  local done, answer = pcall(write_outcome, at, position, more)
  if not done then
    pcall(give_up, ARGV[at], ARGV[at + 1], ARGV[at + 2])
    fail(position, answer)
  end
  if more.l then -- the body has returned, whether or not its outcome counts
    local limits, seconds, which = rare.admit.read(more.l), string.match(more.l, '^s([%d.]+) ([%d,]*)\n')
    local is_unbegun = done and (string.find(more.l, '^r') or answer and string.find(more.l, '^q')) -- see the header
    if seconds and done and answer then pcall(rare.admit.slow_down, limits, which, tonumber(seconds)) end
    pcall(rare.admit.give, limits, ARGV[at] .. ':' .. ARGV[at + 1], worker, is_unbegun)
  end
  if size == AT_ONCE then settle_all() end
end

local function write_counts(key, seconds)
  local is_new = false
  for label, number in pairs(counts) do is_new = write('HINCRBY', key, label, number) == number or is_new end
  if is_new then redis.call('EXPIRE', key, seconds) end
end

-- After the last outcome: settle those that are left, and count the attempts under `key`, kept for so many seconds.
function commit.finish(key, seconds)
  settle_all()
  pcall(write_counts, key, seconds)
end
