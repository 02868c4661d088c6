-- Parts: server, move, enqueue
-- Rare parts: turns
-- Limits: slots, rates, and the lanes of those that wait for one. Of the script: `prefix`, `iso`.
--
-- A job's field `limits` has a line for each limit, of words between tabs:
--   c  id  value  n  what to do when it is full (wait, discard)
--   r  id  value  n  seconds  burst  cost
-- `jobs:limit:<id>` has the values that hold instead of these: those of the newest release, or of an operator. A *place*
-- is a limit with one value of its key, `<id>=<value>`:
--   jobs:slots:<place>         who owns a slot: `<job>:<execution>`; again, by its worker, in jobs:holds:<worker>
--   jobs:rate:<place>          when a rate is as if nothing had ever started (GCRA's theoretical arrival time)
--   jobs:lane:<place>:<queue>  jobs that wait, the first at the head; ids of those that have gone otherwise are skipped
--   jobs:lanes:<place>         the queues that have a lane, and the job that was woken in each, or ''
--   jobs:limited               places with lanes, by since when; jobs:limits:due  those that a rate lets go on, by when
-- A woken job is at the head of its queue as a hint and holds nothing: its record's field `woken` names the places. If another
-- limit refuses it, it waits there by its *rank*: the time when a limit has refused it first since it came to its queue.
local admit = { read = 0, is_alive = 0, has_room = 0, refused_by = 0, take = 0, give = 0, back = 0, hold_back = 0, unmark = 0, off = 0,
  wake = 0, wake_marked = 0, wake_due = 0, look_again = 0, next_due = 0, wait_for = 0, slow_down = 0, tidy = 0, head = 0,
  is_holder = false, moved = 0,
  AT_ONCE = 50 } -- jobs that one step moves to lanes, at the most: some milliseconds

local FIRST = 1e10 -- seconds by which the rank of a job that held its limits is before all others
local STRUCK_OFF = 10 -- members of a full limit whose workers are looked at
local AT_HEAD = 20 -- woken jobs at the head of a queue that are looked at
local SKIPPED = 500 -- ids of a lane that one call passes over
local EXACT = 1000 -- a lane up to this long is searched for what leaves it
local DEAD_AFTER = 30 -- seconds; as jobs.broker.times.UNSEEN

local time = nil
local function server_time()
  time = time or clock()
  return time
end

local texts = {} -- limits by the text that has been read: many jobs of a step have the same

-- The limits of a job. A line that cannot be read limits nothing.
function admit.read(text)
  if texts[text] then return texts[text] end
  local limits = {}
  texts[text] = limits
  for line in string.gmatch(text, '[^\n]+') do
    local limit, kind, id, value = {}, string.match(line, '^([cr])\t([^\t]*)\t([^\t]*)\t')
    if kind == 'c' then
      limit.n, limit.on_full = string.match(line, '\t(%d+)\t(%a+)$')
    elseif kind == 'r' then
      limit.n, limit.per, limit.burst, limit.cost = string.match(line, '\t(%d+)\t([%d.]+)\t(%d+)\t(%d+)$')
      limit.per, limit.burst, limit.cost = tonumber(limit.per), tonumber(limit.burst), tonumber(limit.cost)
    end
    limit.n = tonumber(limit.n)
    if limit.n then
      limit.kind, limit.id, limit.value, limit.place = kind, id, value, id .. '=' .. value
      limit.slots, limit.lanes = 'jobs:slots:' .. limit.place, 'jobs:lanes:' .. limit.place
      limits[#limits + 1] = limit
    end
  end
  return limits
end

local holding = {} -- by place: the values that hold now, read once a script

-- Take the values that hold now in the place of a job's own.
local function look_up(limit)
  local known = holding[limit.place]
  if known and limit.known == known then return end
  known = known or redis.pcall('HMGET', 'jobs:limit:' .. limit.id, 'n', 'own_n', 'paused', 'until=' .. limit.value, 'per',
    'burst', 'own_per', 'own_burst')
  holding[limit.place], limit.known = known, known
  if known.err then return end
  limit.n = tonumber(known[2] or known[1] or '') or limit.n
  local until_ = math.max(tonumber(known[3] or '') or 0, tonumber(known[4] or '') or 0)
  limit.until_ = until_ > 0 and until_ or nil
  if limit.kind == 'r' then
    limit.per = tonumber(known[7] or known[5] or '') or limit.per
    limit.burst = math.max(tonumber(known[8] or known[6] or '') or limit.burst, limit.cost)
  end
end

function admit.is_alive(worker)
  local seen = redis.pcall('ZSCORE', 'jobs:workers', worker)
  if type(seen) ~= 'string' then return seen ~= false end
  return server_time() - seen < DEAD_AFTER
end

local struck = {} -- places whose dead members were looked for: once a script

-- Some slots of a full limit whose workers are dead are void.
local function strike_off(limit)
  local is_silent = redis.call('EXISTS', 'jobs:silence') == 1
  for _, member in ipairs(redis.pcall('SRANDMEMBER', limit.slots, STRUCK_OFF)) do
    local worker = string.match(member, '^[^:]*:(.*)%.%d+$')
    if not worker or not is_silent and not admit.is_alive(worker) then
      redis.call('SREM', limit.slots, member)
      if worker then redis.call('SREM', 'jobs:holds:' .. worker, member .. '\t' .. limit.place) end
    end
  end
end

-- When the rate's next start may be: now or earlier if it may be now; and its state after that.
local function next_start(limit)
  local interval = limit.per / limit.n
  local at = math.max(tonumber(redis.pcall('GET', 'jobs:rate:' .. limit.place)) or 0, server_time()) + interval * limit.cost
  return at - interval * limit.burst, at
end

local function keep_rate(limit, at)
  redis.call('SET', 'jobs:rate:' .. limit.place, string.format('%.6f', at), 'PX',
    math.max(1, math.ceil((at - server_time()) * 1000)))
end

-- Whether a limit admits one more.
function admit.has_room(limit)
  look_up(limit)
  limit.due = nil
  if limit.until_ and limit.until_ > server_time() then
    limit.due = limit.until_ < 1e14 and limit.until_ or nil
    return false
  elseif limit.until_ then
    redis.call('HDEL', 'jobs:limit:' .. limit.id, 'until=' .. limit.value, 'paused')
    limit.until_, holding[limit.place] = nil, nil
  end
  if limit.kind == 'r' then
    local due, at = next_start(limit)
    if due <= server_time() then return true, at end
    limit.due = due
    return false
  end
  if write('SCARD', limit.slots) < limit.n then return true end
  if struck[limit.place] then return false end
  struck[limit.place] = true
  strike_off(limit)
  return redis.call('SCARD', limit.slots) < limit.n
end

-- The seconds until a rate admits one more. Up to `most` the start is taken.
function admit.wait_for(limit, most)
  local seconds, at = 0, nil
  look_up(limit)
  if limit.until_ then seconds = math.max(0, limit.until_ - server_time()) end
  local due
  due, at = next_start(limit)
  seconds = math.max(seconds, due - server_time())
  if seconds <= most then keep_rate(limit, at) end
  return seconds
end

-- Whether a job comes before those that wait for a place: it was woken there, or by another limit. A command's pause is
-- none: who comes from there, or is to wait there, comes after.
local function comes_first(woken, place)
  if not woken or string.find('\n' .. woken .. '\n', '\n' .. place .. '\n', 1, true) then return woken end
  return not (string.find(woken, ':pause:=$') or string.find(place, ':pause:=$'))
end

-- The first limit that refuses a job, if any does. One that was woken does not wait behind others.
function admit.refused_by(queue, limits, woken)
  if woken == 'forced' then return nil end
  for _, limit in ipairs(limits) do
    if not admit.has_room(limit) then return limit end
    if not comes_first(woken, limit.place) and redis.pcall('HEXISTS', limit.lanes, queue) == 1 then return limit, true end
  end
  return nil
end

-- Take all of a job's limits for an execution.
function admit.take(limits, member, worker)
  for _, limit in ipairs(limits) do
    if limit.kind == 'c' then
      write('SADD', limit.slots, member)
      write('SADD', 'jobs:holds:' .. worker, member .. '\t' .. limit.place)
      if not admit.is_holder then write('SADD', 'jobs:holders', worker) end
      admit.is_holder = true
    else
      local _, at = next_start(limit)
      keep_rate(limit, at)
    end
  end
end

local marked, order = {}, {} -- how often places may have got room, whose lanes are woken at the end of a script

local function is_share(place) return string.sub(place, 1, 6) == 'share=' end

local function mark(place)
  if not marked[place] or is_share(place) then order[#order + 1] = place end -- each turn that ends has its place in the ring
  marked[place] = (marked[place] or 0) + 1
end

local function is_woken(place, queue, id)
  if not id or id == '' then return false end
  local job = redis.pcall('HMGET', prefix .. 'job:' .. id, 'status', 'woken', 'origin')
  return job[1] == 'queued' and job[3] == queue and string.find('\n' .. (job[2] or '') .. '\n', '\n' .. place .. '\n', 1, true)
end

-- Forget a lane that is empty, and that nobody was woken from.
function admit.tidy(place, queue)
  if redis.call('EXISTS', 'jobs:lane:' .. place .. ':' .. queue) == 1 then return end
  redis.call('HDEL', 'jobs:lanes:' .. place, queue)
  if redis.call('EXISTS', 'jobs:lanes:' .. place) == 0 then
    redis.call('ZREM', 'jobs:limited', place)
    redis.call('ZREM', 'jobs:limits:due', place)
  end
end

-- A job that was woken has been claimed, or leaves its queue otherwise: its lanes may go on. `woken`: the field of its
-- record, which the caller removes.
function admit.unmark(queue, id, woken)
  for place in string.gmatch(woken or '', '[^\n]+') do
    local lanes = 'jobs:lanes:' .. place
    local known = redis.pcall('HGET', lanes, queue)
    local left = type(known) == 'string' and string.gsub(' ' .. known .. ' ', ' ' .. string.gsub(id, '%p', '%%%0') .. ' ', ' ', 1)
    if left and #left < #known + 2 then
      redis.call('HSET', lanes, queue, string.match(left, '^ ?(.-) ?$'))
      mark(place)
      if left == ' ' then admit.tidy(place, queue) end
    end
  end
end

-- No more starts of these limits for so many seconds. `which`: their numbers, between commas.
function admit.slow_down(limits, which, seconds)
  for number in string.gmatch(which, '%d+') do
    local limit = limits[tonumber(number)]
    if limit then
      holding[limit.place] = nil
      local key, field, at = 'jobs:limit:' .. limit.id, 'until=' .. limit.value, server_time() + seconds
      if (tonumber(write('HGET', key, field) or '') or 0) < at then redis.call('HSET', key, field, string.format('%.6f', at)) end
    end
  end
end

-- Give the slots of an execution free; with `tokens`, what it took of rates, too: it was not begun. With `id`, its job
-- goes back to the head of that queue, and is the first to have them.
function admit.give(limits, member, worker, tokens)
  for _, limit in ipairs(limits) do
    if limit.kind == 'c' then
      redis.call('SREM', 'jobs:holds:' .. worker, member .. '\t' .. limit.place)
      if write('SREM', limit.slots, member) == 1 then mark(limit.place) end
    elseif tokens then
      look_up(limit)
      local at = tonumber(redis.pcall('GET', 'jobs:rate:' .. limit.place))
      if at then
        keep_rate(limit, at - limit.per / limit.n * limit.cost)
        mark(limit.place)
      end
    end
  end
end

-- A job that held its limits goes back to the head of its queue: it comes before those that wait in the lanes.
function admit.back(queue, id, limits)
  local places = {}
  for _, limit in ipairs(limits) do
    local woken = redis.pcall('HGET', limit.lanes, queue)
    places[#places + 1] = limit.place
    if type(woken) == 'string' and not is_woken(limit.place, queue, woken) then redis.call('HSET', limit.lanes, queue, id) end
  end
  return table.concat(places, '\n')
end

local function rank_of(id) return tonumber(redis.pcall('HGET', prefix .. 'job:' .. id, 'rank')) or 0 end

-- Put a job into a list before the first of those at its head that `comes_later`; as part of move.all_or_none.
local function insert(undo, list, id, most, comes_later)
  for at = 0, most do
    local other = write('LINDEX', list, at)
    if not other then return enqueue.one(undo, 'RPUSH', list, id) end
    if at == most or comes_later(other) then return enqueue.before(undo, list, other, id) end
  end
end

-- Put a job that was refused into the lane of a limit: to its end, if it was not woken. The caller takes it off its queue.
function admit.hold_back(queue, id, limit, woken)
  local key, place, now_ = prefix .. 'job:' .. id, limit.place, string.format('%.6f', server_time())
  local rank = string.format('%.6f', server_time() + admit.moved / 1e6)
  if woken then rank = redis.pcall('HGET', key, 'rank') or string.format('%.6f', rank - FIRST) end
  move.all_or_none(function(undo)
    local lane, is_new = 'jobs:lane:' .. place .. ':' .. queue, write('HSETNX', 'jobs:lanes:' .. place, queue, '') == 1
    local last = woken and write('LINDEX', lane, -1)
    if last and rank_of(last) > tonumber(rank) then
      insert(undo, lane, id, SKIPPED, function(other) return rank_of(other) > tonumber(rank) end)
    else
      enqueue.one(undo, 'RPUSH', lane, id)
    end
    is_new = is_new or is_share(place) -- it has a ring before it has a lane
    if is_new and not redis.call('ZSCORE', 'jobs:limited', place) then write('ZADD', 'jobs:limited', now_, place) end
    move.into(undo, prefix .. 'deferred:' .. queue, now_, id)
    redis.call('HSET', key, 'status', 'deferred', 'state', 'limited', 'lane', place, 'rank', rank)
  end)
  if woken then
    redis.call('HDEL', key, 'woken')
    admit.unmark(queue, id, woken)
  end
  if limit.due then
    local due = write('ZSCORE', 'jobs:limits:due', place)
    if not due or tonumber(due) > limit.due then redis.call('ZADD', 'jobs:limits:due', string.format('%.6f', limit.due), place) end
  end
end

-- A job leaves the lane that its record names; or its queue, if it was woken there. The next are woken by `wake_marked`.
function admit.off(queue, id, lane, woken)
  if lane then
    local list = 'jobs:lane:' .. lane .. ':' .. queue
    if write('LLEN', list) <= EXACT then redis.call('LREM', list, 1, id) end
    if redis.pcall('HGET', 'jobs:lanes:' .. lane, queue) == '' then admit.tidy(lane, queue) end
  end
  if woken then admit.unmark(queue, id, woken) end
end

-- The first job that still waits in a lane.
function admit.head(place, queue)
  local lane = 'jobs:lane:' .. place .. ':' .. queue
  for _ = 1, SKIPPED do
    local id = write('LINDEX', lane, 0)
    if not id then return nil end
    local job = redis.pcall('HMGET', prefix .. 'job:' .. id, 'status', 'lane', 'origin', 'limits')
    if job[1] == 'deferred' and job[2] == place and job[3] == queue then return id, job[4] end
    redis.call('LPOP', lane)
  end
  mark(place) -- the rest by the next look
  return nil
end

-- Put a job to the head of its queue; one of several limits behind those at the head that were woken and are older: the lane
-- of another limit may have woken them. As part of move.all_or_none.
local function to_head(undo, queue, id, text)
  local list = prefix .. 'queue:' .. queue
  if not admit.read(text or '')[2] then return enqueue.one(undo, 'LPUSH', list, id) end
  local rank = rank_of(id)
  insert(undo, list, id, AT_HEAD, function(other)
    local known = redis.pcall('HMGET', prefix .. 'job:' .. other, 'woken', 'rank')
    return not known[1] or (tonumber(known[2]) or 0) > rank
  end)
end

local function room_for(place, text)
  for _, limit in ipairs(admit.read(text or '')) do
    if limit.place == place then
      if admit.has_room(limit) then return true end
      if limit.due then write('ZADD', 'jobs:limits:due', string.format('%.6f', limit.due), place) end
      return false
    end
  end
  return true -- it does not say: it is asked at the claim
end

-- Put the head of each queue's lane to the head of its queue, if the limit has room and nobody is woken there. With `again`
-- this script calls it for the place once more.
function admit.wake(place, again)
  if is_share(place) then return rare.turns.wake(place, again) end
  local lanes = redis.pcall('HGETALL', 'jobs:lanes:' .. place)
  for at = 1, #lanes, 2 do
    local queue, woken = lanes[at], lanes[at + 1]
    if not is_woken(place, queue, woken) then
      local id, text = admit.head(place, queue)
      if not id then
        admit.tidy(place, queue)
      elseif not room_for(place, text) then
        return
      else
        local key = prefix .. 'job:' .. id
        move.all_or_none(function(undo)
          to_head(undo, queue, id, text)
          move.out_of(undo, prefix .. 'deferred:' .. queue, id)
          redis.call('HSET', 'jobs:lanes:' .. place, queue, id)
          redis.call('HSET', key, 'status', 'queued', 'enqueued_at', iso, 'woken', place)
        end)
        redis.call('HDEL', key, 'lane', 'state')
        redis.call('LPOP', 'jobs:lane:' .. place .. ':' .. queue)
      end
    end
  end
end

-- A place may have room although its lane is not empty: all in it may be gone.
function admit.look_again(place) mark(place) end

-- Wake those for whom this script has made room. To be called when the lists of queues are as they are to be. Returns
-- whether it has looked for any.
function admit.wake_marked()
  local places, left = order, marked
  order, marked = {}, {}
  for _, place in ipairs(places) do
    left[place] = left[place] - 1
    pcall(admit.wake, place, is_share(place) and left[place] > 0)
  end
  return #places > 0
end

-- Wake the lanes that are due, some a call.
function admit.wake_due(most)
  for _, place in ipairs(write('ZRANGEBYSCORE', 'jobs:limits:due', '-inf', string.format('%.6f', server_time()), 'LIMIT', 0, most)) do
    redis.call('ZREM', 'jobs:limits:due', place)
    pcall(admit.wake, place)
  end
end

-- In how many seconds the next lane is due, as text; '' if none is.
function admit.next_due()
  local first = redis.pcall('ZRANGE', 'jobs:limits:due', 0, 0, 'WITHSCORES')
  return first[2] and string.format('%.6f', math.max(0, first[2] - server_time())) or ''
end
