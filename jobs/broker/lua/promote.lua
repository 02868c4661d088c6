-- Move due jobs of one queue from its scheduled registry to its list, in order of due time, a slice a call. Those whose
-- record says `front` go to its head.
--
-- KEYS  the scheduled registry, the queue's list, its failed registry
-- ARGV  RQ's key prefix, now (ISO), the most to move
-- Returns how many are no longer in the registry: as many as asked for means that there may be more.
--
-- Each job is moved by itself. One whose key is no hash can never run: it is shown among the dead.
local prefix, iso = ARGV[1], ARGV[2]
local queue = string.sub(KEYS[2], #prefix + 7) -- 'rq:' .. 'queue:'
-- Parts: server, move, enqueue
-- Rare parts: admit, turns

allow_writes_when_full()
local due = write('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.6f', clock()), 'LIMIT', 0, ARGV[3])
local moved, failure = 0, nil

local function promote(id)
  local key = prefix .. 'job:' .. id
  local known = redis.pcall('HMGET', key, 'status', 'front', 'limits')
  local is_limited = false
  move.all_or_none(function(undo)
    if known.err then
      move.into(undo, KEYS[3], '9999999999', id)
    elseif known[1] and known[2] then
      enqueue.one(undo, 'LPUSH', KEYS[2], id)
    elseif known[1] then
      is_limited = rare.turns.arrive(undo, 'RPUSH', queue, id, known[3])
    end
    move.out_of(undo, KEYS[1], id)
    if is_limited then
      redis.call('HSET', key, 'enqueued_at', iso)
    elseif known[1] then
      redis.call('HSET', key, 'status', 'queued', 'enqueued_at', iso)
    end
  end)
end

for _, id in ipairs(due) do
  local done, answer = pcall(promote, id)
  if done then moved = moved + 1 else failure = failure or answer end
end
if rawget(rare, 'admit') then rare.admit.wake_marked() end
if failure and moved == 0 then error(failure, 0) end
return moved
