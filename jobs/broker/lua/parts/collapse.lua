-- Parts: server, record
-- Debounce: a push collapses into the job of its key that has not begun. Of the script: `prefix`.
--
-- `by` says how: `key`, the key in Redis that names that job; `wait` and `at_most`, seconds from this push and from the
-- first one; `keep`, whose arguments the job has.
local collapse = { due = 0, into = 0, begin = 0 }

local HAS_PLACE = { queued = true, deferred = true } -- in a list, or behind a limit: the job keeps its place there
local AFTER = 86400 -- seconds that the key outlives the wait: a job may stand in its queue for so long

local function name(by, id) redis.call('SET', by.key, id, 'PX', math.ceil((by.wait + AFTER) * 1000)) end

-- The job of the key and what is known of it, if it has never begun. What takes a job out of the debounce for good is in
-- its record: progress, interruptions, the attempts of a dead job, steps; and a retry by a person removes the field `collapse`.
-- One that waits for a limit, or was woken by it, takes no others: `limits` are those of the push.
local function standing(by, limits)
  local id = redis.pcall('GET', by.key)
  if type(id) ~= 'string' then return nil end
  local job = redis.pcall('HMGET', prefix .. 'job:' .. id, 'collapse', 'status', 'origin', 'latest', 'collapsed',
    'progress', 'interruptions', 'attempts', 'steps', 'lane', 'woken', 'limits')
  if job[1] ~= by.key or job[6] or job[7] or job[8] or job[9] then return nil end
  local scheduled = job[2] == 'scheduled' and job[3] and write('ZSCORE', prefix .. 'scheduled:' .. job[3], id)
  if not scheduled and not HAS_PLACE[job[2]] then return nil end
  if (job[10] or job[11]) and by.keep == 'last' and job[12] ~= limits then return nil end -- its lane is another one
  return id, job, tonumber(scheduled)
end

-- When a job that is pushed now is due; '' for at once.
function collapse.due(by) return by.wait > 0 and string.format('%.6f', clock() + by.wait) or '' end

-- Let a push collapse into another job. `first`, `last`: where ARGV has the further fields of its record. Returns the id
-- of that job; nothing if there is none.
function collapse.into(by, id, payload, expires_in, first, last)
  local own, letters, limits = { 'data', payload }, '', false
  for at = first, last, 2 do
    if ARGV[at] == 'more' then
      letters = letters .. ARGV[at + 1]
    elseif ARGV[at] ~= 'batch' then -- which the job joins beside its own: batch.stand_for
      own[#own + 1], own[#own + 2] = ARGV[at], ARGV[at + 1]
    end
    if ARGV[at] == 'limits' then limits = ARGV[at + 1] end
  end
  local other, job, due = standing(by, limits)
  if not other then return nil end
  local key, count, by_id = prefix .. 'job:' .. other, string.match(job[5] or '', '^(%d+) %S+ (.*)$')
  if by_id == id then return other end -- it is sent twice
  local now = clock()
  name(by, other)
  local latest = tonumber(job[4]) or now
  if due and due <= latest then -- else a person has put it off further
    due = math.min(now + by.wait, latest)
    write('ZADD', prefix .. 'scheduled:' .. job[3], string.format('%.6f', due), other)
  end
  local fields = { 'collapsed', string.format('%.0f %.6f %s', (tonumber(count) or 0) + 1, now, id) }
  if expires_in then
    fields[3], fields[4] = 'expires_at', string.format('%.6f', math.max(due or now, now) + expires_in)
  end
  if by.keep == 'last' then
    redis.call('HDEL', key, 'timeout', 'result_ttl', 'context', 'profile', 'limits')
    redis.call('HSET', key, unpack(own))
    for letter in string.gmatch(letters, '.') do record.has(key, letter) end -- it may have more than the push
  end
  redis.call('HSET', key, unpack(fields))
  return other
end

-- A job is written that is the first of its key.
function collapse.begin(by, id)
  name(by, id)
  redis.call('HSET', prefix .. 'job:' .. id, 'latest', string.format('%.6f', clock() + by.at_most))
end
