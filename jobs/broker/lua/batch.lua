-- Open or seal a batch, or look after it.
--
-- ARGV  1 RQ's key prefix   2 the batch's id   3 what:
--         open   write its record. 4 the parent's id or ''   5 'later' if the parent may be written later   6 who holds it
--                open   7 the step that opens it, or ''   8 the key of its lock, or ''   9... names and values of its record
--         hold   keep it open: 4 who. Refused once it has ended
--         seal   4 who no longer keeps it open; '' for nobody who does; the mark 'again' stays as long as steps are to run
--                again   5... members that a person has withdrawn before they were written: they count as deleted
--         again  steps of a flow are to run again, which keeps it open: 4... each step's id and what it lacks then, as JSON
--         cancel mark it as cancelled: nothing more is added, and nobody keeps it open
--         steps  return those that are to run again, as names and values
--         sweep  end members of which nothing is left, or that ended otherwise than by a script of ours. 4 the most to look
--                at. Returns how many are pending, -1 if there is no such batch
-- Returns 'done', 'missing', 'ended' or, to open, 'held' and the id of the flow that holds its lock; for `sweep` a number, for
-- `steps` a list.
--
-- It may be sent twice.
local prefix, id, what = ARGV[1], ARGV[2], ARGV[3]
-- Parts: server
-- Rare parts: batch

local key, place, read = 'jobs:batch:' .. id, rare.batch.place, rare.batch.read

local function has_ended(of)
  local header = read(of)
  if redis.pcall('HGET', 'jobs:batch:' .. of, 'cancelled') == '1' then return true end
  return header.success or header.complete and write('SCARD', place('pending', of)) == 0
end

-- The flow that holds a lock: one that has not ended.
local function holder(lock)
  local of = redis.pcall('GET', lock)
  if type(of) ~= 'string' or of == id or not read(of).is_written then return nil end
  if redis.call('EXISTS', place('holds', of), place('pending', of)) > 0 then return of end
end

-- What waits for the step of a flow waits for the batch that the step opens, too.
local function extend(step)
  for kind, event in pairs({ dependents = 'success', followers = 'complete' }) do
    local prerequisite = 'batch:' .. id .. ':' .. event
    for _, each in ipairs(write('SMEMBERS', 'jobs:' .. kind .. ':' .. step)) do
      if string.sub(each, 1, 6) ~= 'batch:' then
        write('SADD', 'jobs:waits:' .. each, prerequisite)
        write('SADD', 'jobs:dependents:' .. prerequisite, each)
      end
    end
  end
end

local function open()
  local parent, may_come_later, step, lock = ARGV[4], ARGV[5] == 'later', ARGV[7], ARGV[8]
  if read(id).is_written then return 'done' end
  if lock ~= '' then
    local other = holder(lock)
    if other then return 'held ' .. other end
    redis.call('SET', lock, id, 'EX', 366 * 86400)
  end
  if parent ~= '' then
    if not read(parent).is_written and not may_come_later then return 'missing' end
    if has_ended(parent) then return 'ended' end
    rare.batch.put(parent, 'batch:' .. id, 'pending')
    write('SADD', place('children', parent), id)
  end
  write('ZADD', 'jobs:batches', clock(), id)
  write('SADD', place('holds', id), ARGV[6])
  write('HSET', key, 'created', string.format('%.6f', clock()), unpack(ARGV, 9))
  if step ~= '' and redis.pcall('HGET', 'jobs:batch:' .. parent, 'flow') == '1' then extend(step) end
  if parent ~= '' then redis.call('HSET', key, 'parent', parent) end
  return 'done'
end

local function hold()
  if not read(id).is_written and redis.call('EXISTS', place('pending', id)) == 0 then return 'missing' end
  if has_ended(id) then return 'ended' end
  write('SADD', place('holds', id), ARGV[4])
  return 'done'
end

local function run_again()
  for at = 4, #ARGV, 1000 do write('HSET', place('again', id), unpack(ARGV, at, math.min(at + 999, #ARGV))) end
  write('SADD', place('holds', id), 'again')
  rare.batch.keep(id, nil)
  return 'done'
end

local function seal(holder)
  for at = 5, #ARGV do rare.batch.put(id, ARGV[at], 'deleted') end
  if holder ~= 'again' or redis.call('EXISTS', place('again', id)) == 0 then write('SREM', place('holds', id), holder) end
end

local function sweep()
  if not read(id).is_written then return -1 end
  if redis.call('EXISTS', place('holds', id)) == 0 then -- else its jobs are being written
    for _, state in ipairs({ 'pending', 'dead' }) do
      for _, member in ipairs(write('SRANDMEMBER', place(state, id), ARGV[4])) do
        local outcome = rare.batch.outcome(member)
        if outcome and outcome ~= state then rare.batch.leave(id, member, outcome) end
      end
    end
  end
  return write('SCARD', place('pending', id))
end

if what == 'open' then return open() end
if what == 'hold' then return hold() end
if what == 'sweep' then return sweep() end
if not read(id).is_written then return 'missing' end
if what == 'steps' then return write('HGETALL', place('again', id)) end
if what == 'again' then return run_again() end
if what == 'cancel' then
  write('HSET', key, 'cancelled', '1')
  redis.call('DEL', place('holds', id), place('again', id))
else
  seal(ARGV[4])
end
rare.batch.settle(id)
return 'done'
