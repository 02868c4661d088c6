-- Write new jobs of one queue: all of them now in its list, or each at its time in its scheduled registry, or waiting.
--
-- KEYS  the set of queues, the queue's list, the queue's scheduled registry, its deferred registry
-- ARGV  RQ's key prefix, queue name, time now (ISO), then for each job:
--       id, due ('' for now, seconds since the epoch, or '+' and seconds from now), payload, links, n, and n names and
--       values of further fields
--       links  '' or a JSON object: `waits` ids of prerequisites, `sure` those of them that are not written yet,
--              `many` how many more are in `jobs:unlinked:<id>`, `any` whether they may end badly, `unique` the key of
--              a lock and `unique_ms` how long it holds, `front` whether it goes to the head of its queue,
--              `expires_in` the seconds after which it may not begin, `durable` whether the outbox has it,
--              `durable_waits` those of `waits` that are durable, too, `collapse` how it collapses (the part `collapse`),
--              `batch` the batch whose member it becomes, `released` whether only once its prerequisites are done, `share` the line of its share (part `turns`)
-- Returns position (from 0) and id for each job that was not written because another one holds its lock, or has taken
-- its arguments.
--
-- A job that exists is left alone, so the script may be sent twice. A durable one may be sent again when it has ended:
-- for a day `jobs:sent:<id>` says that it was here, and which job it is instead. A lock names a job, and counts while that job is
-- unfinished: it cannot outlive it, whatever happens to either.
local prefix, queue, iso = ARGV[1], ARGV[2], ARGV[3]
local records = prefix .. 'job:'
-- Parts: server, move, enqueue, ended, link
-- Rare parts: admit, batch, collapse, turns

local AT_ONCE = 1000 -- jobs in one command: `unpack` fills Lua's stack, which holds a few thousand values
local ready, duplicates, i, position = {}, {}, 4, 0

local function holder(lock)
  local id = redis.pcall('GET', lock) -- SET replaces whatever lies there, and the record of what is no job is no hash
  local status = type(id) == 'string' and redis.pcall('HGET', records .. id, 'status')
  return type(status) == 'string' and not ENDED[status] and id
end

-- The answer of the first time, for a durable job that was here before: '' or the id of the job whose duplicate it was.
local function answered(id)
  local sent = redis.pcall('GET', 'jobs:sent:' .. id)
  if type(sent) == 'string' then return sent end
  return redis.call('EXISTS', 'jobs:gone:' .. id) == 1 and '' or nil
end

-- A durable prerequisite that was never here is not written yet, and one that was a duplicate stands for the other job.
local function look_at_durable(links)
  local is_durable = {}
  for _, each in ipairs(links.durable_waits) do is_durable[each] = true end
  for at, each in ipairs(links.waits) do
    local sent = is_durable[each] and redis.call('EXISTS', records .. each) == 0 and answered(each)
    if sent == nil then
      links.sure[#links.sure + 1] = each
    elseif sent and sent ~= '' then
      links.waits[at] = sent
    end
  end
end

-- What `defer` would have refused: a prerequisite of a durable job that can never finish.
local function never_done(waits)
  for _, each in ipairs(waits) do
    local how = redis.pcall('GET', 'jobs:gone:' .. each)
    local job = redis.pcall('HMGET', records .. each, 'status', 'state')
    if not how and job[1] == 'canceled' and job[2] ~= 'discarded' then how = 'cancelled' end
    if type(how) == 'string' then
      return 'Job ' .. each .. ' cannot be a prerequisite: it was ' .. how .. ', so it will never finish.'
    end
  end
end

-- Whether the outbox keeps a job until it ends: its field `durable` says so.
local function is_kept(from, fields)
  for at = from, from + 2 * fields - 2, 2 do
    if ARGV[at] == 'durable' then return ARGV[at + 1] == 'kept' end
  end
end

local takes_turns = false -- whether a job went to its lane, whose next may be woken
local begun = nil -- the job that is being written
local joined = {} -- by job: the batch whose member it has become

local function write_jobs()
  while i <= #ARGV do
    local id, due, payload, links, extra = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], tonumber(ARGV[i + 4])
    local key, waiting, taken = records .. id, false, nil
    if redis.call('EXISTS', key) == 0 then
      begun = id
      if due ~= '' and string.byte(due) == 43 then due = string.format('%.6f', clock() + tonumber(due)) end -- '+'
      if links ~= '' then
        links = cjson.decode(links)
        taken = links.durable and answered(id)
        if not taken and links.batch and not links.released and rare.batch.refuses(links.batch, id) then
          if is_kept(i + 5, extra) then write('SADD', 'jobs:outbox:ended', id) end
          taken = ''
        elseif not taken then
          taken = links.unique and holder(links.unique)
            or links.collapse and rare.collapse.into(links.collapse, id, payload, links.expires_in, i + 5, i + 4 + 2 * extra)
          if links.durable then redis.call('SET', 'jobs:sent:' .. id, taken or '', 'EX', 86400) end
        end
        if taken == '' then
          if links.many then redis.call('UNLINK', 'jobs:unlinked:' .. id) end
        elseif taken then
          if links.batch then rare.batch.stand_for(links.batch, id, taken) end
          duplicates[#duplicates + 1] = { position, taken }
          if links.many then redis.call('UNLINK', 'jobs:unlinked:' .. id) end
        else
          if links.unique then redis.call('SET', links.unique, id, 'PX', links.unique_ms) end
          if links.collapse then due = rare.collapse.due(links.collapse) end
          if links.durable_waits then look_at_durable(links) end
          waiting = links.waits and link.wait_for(id, links.waits, links.any, links.sure)
          if links.many then
            if redis.call('SCARD', 'jobs:unlinked:' .. id) ~= links.many then
              error('job ' .. id .. ' is not written: its prerequisites have expired. Defer it again.', 0)
            end
            link.later(key, id, links.any)
            waiting = true
          end
        end
      end
      if not taken then
        local registry, score = nil, nil
        if waiting then
          registry, score = KEYS[4], clock()
          redis.call('HSET', key, 'created_at', iso, 'origin', queue, 'status', 'deferred', 'data', payload,
            unpack(ARGV, i + 5, i + 4 + 2 * extra))
          if due ~= '' then redis.call('HSET', key, 'due', due) end
          local reason = links.durable and never_done(links.waits or {})
          if reason then
            redis.call('HSET', key, 'history', cjson.encode({ event = 'blocked', at = clock(), reason = reason }))
          end
        elseif due ~= '' then
          registry, score = KEYS[3], due
          redis.call('HSET', key, 'created_at', iso, 'origin', queue, 'status', 'scheduled', 'data', payload,
            unpack(ARGV, i + 5, i + 4 + 2 * extra))
        elseif extra == 0 then
          redis.call('HSET', key, 'created_at', iso, 'enqueued_at', iso, 'origin', queue, 'status', 'queued', 'data', payload)
        else
          redis.call('HSET', key, 'created_at', iso, 'enqueued_at', iso, 'origin', queue, 'status', 'queued',
            'data', payload, unpack(ARGV, i + 5, i + 4 + 2 * extra))
        end
        if links ~= '' and links.expires_in then
          local from = tonumber(due) or clock()
          redis.call('HSET', key, 'expires_at', string.format('%.6f', from + links.expires_in))
        end
        if links ~= '' and links.collapse then rare.collapse.begin(links.collapse, id) end
        if links ~= '' and links.batch and not (waiting and links.released) then
          joined[id] = links.batch
          rare.batch.join(links.batch, id)
        end
        if registry then
          write('ZADD', registry, score, id)
        elseif links ~= '' and links.front then
          enqueue.many('LPUSH', KEYS[2], { id })
        elseif links ~= '' and links.share then
          takes_turns = true
          move.all_or_none(rare.turns.arrive, 'RPUSH', queue, id, links.share)
        else
          ready[#ready + 1] = id
        end
      end
      begun = nil
    end
    i, position = i + 5 + 2 * extra, position + 1
  end
end

write('SADD', KEYS[1], KEYS[2])
local written, refusal = pcall(write_jobs)
if begun then -- no record without a place
  redis.call('DEL', records .. begun, 'jobs:waits:' .. begun, 'jobs:sent:' .. begun)
  redis.call('UNLINK', 'jobs:unlinked:' .. begun)
  redis.call('SREM', 'jobs:linking', begun)
  if joined[begun] then rare.batch.withdraw(joined[begun], begun) end
end
-- Those before it are whole.
for first = 1, #ready, AT_ONCE do
  local ids = #ready <= AT_ONCE and ready or { unpack(ready, first, math.min(first + AT_ONCE - 1, #ready)) }
  local placed, reason = pcall(enqueue.many, 'RPUSH', KEYS[2], ids)
  if not placed then
    for at = first, #ready do
      redis.call('DEL', records .. ready[at], 'jobs:sent:' .. ready[at])
      if joined[ready[at]] then rare.batch.withdraw(joined[ready[at]], ready[at]) end
    end
    written, refusal = false, reason
    break
  end
end
if takes_turns then rare.admit.wake_marked() end
if not written then error(refusal, 0) end
return duplicates
