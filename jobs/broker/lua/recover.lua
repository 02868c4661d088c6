-- Give claims of dead workers back to the heads of their queues.
--
-- KEYS  the wip registry of one queue, the queue's list, the queue's failed registry
-- ARGV  1 RQ's key prefix   2 queue name   3 now (ISO)   4 seconds after which an unseen worker is dead
--       5 suspect interruptions in a row that make a job dead ("poison")   6 seconds that a dead job is kept
--       7 the text of a poisoned job's result, as RQ stores one
--       8 '' for the claims of every dead worker, else the name of one worker: its claims, but for those listed after
--       9 number of the last execution that had begun: those up to it count an interruption
--       10 number from which on that worker's executions are left alone: it may have claimed them since it asked
--       11 'all' if every interrupted job is suspect, 'listed' if only the executions listed last are
--       12 seconds without any beat after which no worker is declared dead for as long
--       13 how many claims, from the last one on, are passed over   14 number of executions of that worker that it still
--       runs, then those, then the suspect ones
-- Returns { given back, dead, further }: lists of id and worker, and how many claims to pass over in the next call; -1
--       when all have been checked.
--
-- An interruption that is not suspect is counted as survived at once: `interruptions - survived` is the suspicion.
--
-- Who runs it does not matter, nor how many at once: a claim is there once, and goes in the same step.
-- The slots of limits are freed with the claims of a dead worker and those not begun. A worker that gives back what it has
-- begun may still run it; its parent frees them once it has ended (lanes.lua).
--
-- Claims of stock RQ workers have no dot in their execution id, and are RQ's own to clean up.
local prefix, queue, iso, only = ARGV[1], ARGV[2], ARGV[3], ARGV[8]
-- Parts: server, silence, move, enqueue, record, leave
-- Rare parts: admit

local begun, before = tonumber(ARGV[9]), tonumber(ARGV[10])
allow_writes_when_full()
local now = clock()
if only == '' and is_silence(now, ARGV[12]) then return { {}, {}, -1 } end
local plain = 'jobs:plain:' .. queue
local deadline, forget_at = now - ARGV[4], math.floor(now) + ARGV[6]
local kept, suspects = {}, {}
for i = 15, 14 + ARGV[14] do kept[ARGV[i]] = true end
for i = 15 + ARGV[14], #ARGV do suspects[ARGV[i]] = true end

local known = {} -- by worker: whether it is dead

local function is_dead(worker)
  if only ~= '' then return worker == only end
  if known[worker] == nil then
    local seen = redis.call('ZSCORE', 'jobs:workers', worker) -- an error, where it is no sorted set, stops all of this
    known[worker] = not seen or tonumber(seen) < deadline
  end
  return known[worker]
end

local LOOKED_AT, GIVEN_BACK = 500, 25 -- claims in a call, some milliseconds
local back, dead = {}, {}
-- Take a claim away and put its job where it belongs. Returns the list that reports it, and the event of its history.
local function give_back(undo, key, id, member, worker, execution, number)
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'hash' then
    if kind ~= 'none' then leave.broken(undo, queue, id) end
    redis.call('ZREM', KEYS[1], member)
    return {}
  end
  local suspicion, interruptions = 0, 0
  if number <= begun then
    interruptions = redis.call('HINCRBY', key, 'interruptions', 1)
    undo[#undo + 1] = { 'HINCRBY', key, 'interruptions', -1 }
    if ARGV[11] == 'all' or suspects[execution] then
      suspicion = interruptions - (redis.call('HGET', key, 'survived') or 0)
    else
      redis.call('HINCRBY', key, 'survived', 1)
      undo[#undo + 1] = { 'HINCRBY', key, 'survived', -1 }
    end
    local by = redis.call('HGET', key, 'interrupted_by')
    redis.call('HSET', key, 'interrupted_by', by and (by .. ' ' .. worker) or worker)
    undo[#undo + 1] = by and { 'HSET', key, 'interrupted_by', by } or { 'HDEL', key, 'interrupted_by' }
  end
  local is_poison = suspicion >= tonumber(ARGV[5])
  local text = redis.call('HGET', key, 'limits')
  local limits = text and rare.admit.read(text)
  if limits and not is_poison then redis.call('HSET', key, 'woken', rare.admit.back(queue, id, limits)) end
  if is_poison then
    move.into(undo, KEYS[3], forget_at, id)
    leave.job(id, queue, 'dead')
  else
    enqueue.one(undo, 'LPUSH', KEYS[2], id)
  end
  move.out_of(undo, KEYS[1], member)
  if limits and (only == '' or number > begun) then rare.admit.give(limits, member, worker, number > begun) end
  if is_poison then
    local read, progress = pcall(cjson.decode, redis.call('HGET', key, 'progress') or '{}')
    local attempts = read and type(progress) == 'table' and tonumber(progress.attempts) or 0
    redis.call('HSET', key, 'status', 'failed', 'ended_at', iso, 'reason', 'poison', 'attempts', attempts + interruptions)
  else
    redis.call('HSET', key, 'status', 'queued')
  end
  return { is_poison and dead or back, number <= begun and 'interrupted' }
end

-- A plain job whose worker died after RQ's code had written the outcome, which removed the claim, and before the step that
-- releases the commands that wait for the job.
local function release_plain(member)
  local id, execution, worker = string.match(member, '^([^:]*):((.*)%.%d+)$')
  if not worker or tonumber(string.match(member, '%d+$')) >= before or not is_dead(worker) or kept[execution]
    or write('ZSCORE', KEYS[1], member) then return end
  leave.as_recorded(id, queue)
  redis.call('SREM', plain, member)
end

local function rewrite(key, id, worker, event, is_poison)
  local function note_event(name)
    record.note(key, cjson.encode({ event = name, at = math.floor(now), worker = worker }))
  end
  if event then note_event(event) end
  redis.call('HDEL', key, 'started_at', 'worker_name')
  if not is_poison then return end
  redis.call('HDEL', key, 'progress', 'interruptions', 'survived', 'expires_at') -- a retry by a person begins afresh
  redis.call('EXPIREAT', key, forget_at)
  note_event('poisoned')
  write('XADD', prefix .. 'results:' .. id, 'MAXLEN', '10', '*', 'type', '2', 'worker_name', worker,
    'exc_string', ARGV[7])
  redis.call('EXPIREAT', prefix .. 'results:' .. id, forget_at)
end

-- If the workers' beats were put aside (see the part `server`), each has as long to beat again.
local aside = redis.pcall('HGET', 'jobs:aside', 'jobs:workers')
if only == '' and type(aside) == 'string' and now - aside < tonumber(ARGV[4]) then return { back, dead, -1 } end
local passed, removed = tonumber(ARGV[13]), 0
if passed == 0 then
  for _, member in ipairs(redis.pcall('SRANDMEMBER', plain, LOOKED_AT)) do pcall(release_plain, member) end
end
local members = redis.pcall('ZREVRANGE', KEYS[1], passed, passed + LOOKED_AT - 1) -- another type holds no claims
for i = 1, #members do -- the last first, so that the first ends at the head
  if removed == GIVEN_BACK then
    if rawget(rare, 'admit') then rare.admit.wake_marked() end
    return { back, dead, passed + i - 1 - removed }
  end
  local id, execution, worker = string.match(members[i], '^([^:]*):((.*)%.%d+)$') -- no job's id has a colon
  local number = tonumber(string.match(members[i], '%d+$'))
  if worker and number < before and is_dead(worker) and not kept[execution] then
    local key = prefix .. 'job:' .. id
    local done, answer = pcall(move.all_or_none, function(undo)
      return give_back(undo, key, id, members[i], worker, execution, number)
    end)
    if done then -- else a write was refused: the claim stays, and the next recovery tries again
      removed = removed + 1
      local outcome, event = answer[1], answer[2]
      if outcome then
        outcome[#outcome + 1] = { id, worker }
        pcall(rewrite, key, id, worker, event, outcome == dead)
      end
      redis.call('DEL', prefix .. 'execution:' .. members[i])
      write('SREM', plain, members[i])
      write('ZREM', prefix .. 'executions:' .. id, execution)
    end
  end
end
if rawget(rare, 'admit') then rare.admit.wake_marked() end
return { back, dead, #members < LOOKED_AT and -1 or passed + #members - removed }
