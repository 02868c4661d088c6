-- Give claims of dead workers back to the heads of their queues. After shared.lua.
--
-- KEYS  the wip registry of one queue, the queue's list, the queue's failed registry
-- ARGV  1 RQ's key prefix   2 queue name   3 now (ISO)   4 seconds after which an unseen worker is dead
--       5 suspect interruptions in a row that make a job dead ("poison")   6 when to forget a dead job (seconds)
--       7 the text of a poisoned job's result, as RQ stores one
--       8 '' for the claims of every dead worker, else the name of one worker: its claims, but for those listed after
--       9 number of the last execution that had begun: those up to it count an interruption
--       10 number from which on that worker's executions are left alone: it may have claimed them since it asked
--       11 'all' if every interrupted job is suspect, 'listed' if only the executions listed last are
--       12 number of executions of that worker that it still runs, then those, then the suspect ones
-- Returns { given back, dead }, each a list of id and worker.
--
-- An interruption that is not suspect is counted as survived at once: `interruptions - survived` is the suspicion.
--
-- Who runs it does not matter, nor how many at once: a claim is there once, and goes in the same step.
-- Claims of stock RQ workers have no dot in their execution id, and are RQ's own to clean up.
local prefix, queue, iso, only = ARGV[1], ARGV[2], ARGV[3], ARGV[8]
local begun, before = tonumber(ARGV[9]), tonumber(ARGV[10])
local time = redis.call('TIME')
local deadline = time[1] + time[2] / 1000000 - ARGV[4]
local kept, suspects = {}, {}
for i = 13, 12 + ARGV[12] do kept[ARGV[i]] = true end
for i = 13 + ARGV[12], #ARGV do suspects[ARGV[i]] = true end

local function is_dead(worker)
  if only ~= '' then return worker == only end
  local seen = redis.call('ZSCORE', 'jobs:workers', worker) -- an error, where it is no sorted set, stops all of this
  return not seen or tonumber(seen) < deadline
end

local back, dead = {}, {}
-- If the workers' beats were put aside (see shared.lua), each has as long to be heard again.
local aside = redis.pcall('HGET', 'jobs:aside', 'jobs:workers')
if only == '' and type(aside) == 'string' and time[1] - aside < tonumber(ARGV[4]) then return { back, dead } end
local members = redis.pcall('ZRANGE', KEYS[1], 0, -1) -- a key that is no sorted set holds no claims
for i = #members, 1, -1 do -- the last first, so that the first ends at the head
  local id, execution, worker = string.match(members[i], '^([^:]*):((.*)%.%d+)$') -- no job's id has a colon
  local number = tonumber(string.match(members[i], '%d+$'))
  if worker and number < before and is_dead(worker) and not kept[execution] then
    local key = prefix .. 'job:' .. id
    local done, outcome = pcall(function()
      local kind = redis.call('TYPE', key).ok
      if kind == 'none' then return nil end
      if kind ~= 'hash' then -- it can never run: it is shown among the dead
        write('ZADD', KEYS[3], '9999999999', id)
        return nil
      end
      local suspicion = 0
      if number <= begun then
        local interruptions = redis.call('HINCRBY', key, 'interruptions', 1)
        if ARGV[11] == 'all' or suspects[execution] then
          suspicion = interruptions - (redis.call('HGET', key, 'survived') or 0)
        else
          redis.call('HINCRBY', key, 'survived', 1)
        end
        local by = redis.call('HGET', key, 'interrupted_by')
        redis.call('HSET', key, 'interrupted_by', by and (by .. ' ' .. worker) or worker)
        note(key, cjson.encode({ event = 'interrupted', at = tonumber(time[1]), worker = worker }))
      end
      redis.call('HDEL', key, 'started_at', 'worker_name')
      if suspicion >= tonumber(ARGV[5]) then
        local read, progress = pcall(cjson.decode, redis.call('HGET', key, 'progress') or '{}')
        local attempts = read and type(progress) == 'table' and tonumber(progress.attempts) or 0
        redis.call('HSET', key, 'status', 'failed', 'ended_at', iso, 'reason', 'poison',
          'attempts', attempts + redis.call('HGET', key, 'interruptions'))
        redis.call('HDEL', key, 'progress', 'interruptions', 'survived', 'expires_at') -- a retry by a person begins afresh
        note(key, cjson.encode({ event = 'poisoned', at = tonumber(time[1]), worker = worker }))
        write('XADD', prefix .. 'results:' .. id, 'MAXLEN', '10', '*', 'type', '2', 'worker_name', worker,
          'exc_string', ARGV[7])
        write('ZADD', KEYS[3], ARGV[6], id)
        redis.call('EXPIREAT', key, ARGV[6])
        redis.call('EXPIREAT', prefix .. 'results:' .. id, ARGV[6])
        ended(id, false)
        run_ended(key, id, 'dead')
        return dead
      end
      redis.call('HSET', key, 'status', 'queued')
      write('LPUSH', KEYS[2], id)
      return back
    end)
    if done then -- else the server is full: the claim stays, and the next recovery tries again
      redis.call('ZREM', KEYS[1], members[i])
      redis.call('DEL', prefix .. 'execution:' .. members[i])
      redis.call('ZREM', prefix .. 'executions:' .. id, execution)
      if outcome then outcome[#outcome + 1] = { id, worker } end
    end
  end
end
return { back, dead }
