-- A recurring entry is due: write its runs and its next time, in one step.
--
-- KEYS  rq-scheduler's set of entries by their next time
-- ARGV  1 RQ's key prefix   2 the entry's id   3 the time that it was found due at (its score)
--       4 its next time, '' for none   5 now (ISO)   6 '0' when a run must not overlap another
--       7 runs that are kept in its history   8 a line of history about runs that were missed, or ''
--       9... its runs: id and time (seconds) of each
-- Returns the ids of the runs that were written; nothing when another scheduler was here first.
--
-- The first scheduler is the one that finds the entry at the time at which it was read. A run is a copy of the entry's record under an
-- id made of the entry and the time, so it exists once, whatever happens.
local prefix, entry, iso = ARGV[1], ARGV[2], ARGV[5]
-- Parts: server, move, enqueue
-- Rare parts: turns

local template = prefix .. 'job:' .. entry
local history, outcomes = 'jobs:schedule:runs:' .. entry, 'jobs:schedule:ended:' .. entry
local score = redis.call('ZSCORE', KEYS[1], entry)
if not score or tonumber(score) ~= tonumber(ARGV[3]) then return {} end

local record = redis.pcall('HGETALL', template)
if record.err or #record == 0 then -- deleted as any job may be, or no hash any more
  redis.call('ZREM', KEYS[1], entry)
  return {}
end
local OWN = { entry = 1, paused = 1, last_run = 1, runs_written = 1, created_at = 1, enqueued_at = 1, status = 1,
  expires_in = 1 }
local fields, queue, last, expires_in = { 'created_at', iso, 'enqueued_at', iso, 'status', 'queued', 'schedule', entry,
  'more', '1' }, nil, nil, nil
local letters, limits = #fields, nil
for i = 1, #record, 2 do
  if record[i] == 'origin' then queue = record[i + 1] end
  if record[i] == 'last_run' then last = record[i + 1] end
  if record[i] == 'limits' then limits = record[i + 1] end
  if record[i] == 'expires_in' then expires_in = tonumber(record[i + 1]) end
  if record[i] == 'more' then
    fields[letters] = '1' .. string.gsub(record[i + 1], '1', '')
  elseif not OWN[record[i]] then
    fields[#fields + 1] = record[i]
    fields[#fields + 1] = record[i + 1]
  end
end

local function is_active(id)
  local status = type(id) == 'string' and redis.pcall('HGET', prefix .. 'job:' .. id, 'status')
  return status == 'queued' or status == 'started'
end

-- A run that is queued or running: the last one, one by hand, or one whose retry has come. One that waits does not count.
local function active()
  if is_active(last) then return last end
  for _, known in ipairs(write('LRANGE', history, 0, ARGV[7] - 1)) do
    local read, run = pcall(cjson.decode, known)
    if read and type(run) == 'table' and run.what == 'run' and is_active(run.id) then return run.id end
  end
end

local function remember(undo, line)
  write('LPUSH', history, line)
  undo[#undo + 1] = { 'LREM', history, 1, line }
end

local function line(what, id, at) return cjson.encode({ what = what, id = id, at = tonumber(at) }) end

local written = {}
move.all_or_none(function(undo)
  if ARGV[8] ~= '' then remember(undo, ARGV[8]) end
  for i = 9, #ARGV, 2 do
    local id, at = ARGV[i], ARGV[i + 1]
    local key, list = prefix .. 'job:' .. id, prefix .. 'queue:' .. queue
    local other = ARGV[6] == '0' and active()
    if other then
      remember(undo, line('skipped', other, at))
      last = other -- the next time knows it even if the history has forgotten it by then
    elseif id == entry then -- it is due this once
      enqueue.one(undo, 'RPUSH', list, id)
      redis.call('HSET', key, 'status', 'queued', 'enqueued_at', iso)
      written[#written + 1] = id
    elseif redis.call('EXISTS', key) == 0 then
      undo[#undo + 1] = { 'DEL', key }
      redis.call('HSET', key, unpack(fields))
      if expires_in then redis.call('HSET', key, 'expires_at', string.format('%.6f', at + expires_in)) end
      write('SADD', prefix .. 'queues', list)
      rare.turns.arrive(undo, 'RPUSH', queue, id, limits)
      remember(undo, line('run', id, at))
      last, written[#written + 1] = id, id
    end
  end
  if ARGV[4] ~= '' then
    if last then redis.call('HSET', template, 'last_run', last) end
    redis.call('HINCRBY', template, 'runs_written', #written)
    undo[#undo + 1] = { 'HINCRBY', template, 'runs_written', -#written }
  end
  for _, forgotten in ipairs(write('LRANGE', history, ARGV[7], -1)) do
    local read, run = pcall(cjson.decode, forgotten)
    if read and type(run) == 'table' and type(run.id) == 'string' then write('HDEL', outcomes, run.id) end
  end
  redis.call('LTRIM', history, 0, ARGV[7] - 1)
  if ARGV[4] == '' then
    redis.call('ZREM', KEYS[1], entry)
  else
    redis.call('ZADD', KEYS[1], ARGV[4], entry)
  end
end)
return written
