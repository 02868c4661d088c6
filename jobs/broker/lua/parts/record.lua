-- The record of a job. Of the script: `prefix`.
local record = { noted = 0, note = 0, has = 0, forget = 0 }

local HISTORY = 100 -- events kept on a job; the oldest go first

-- A job's history with another event, a line of JSON.
function record.noted(key, event)
  local known = redis.call('HGET', key, 'history')
  if known then
    event = known .. '\n' .. event
    local _, breaks = string.gsub(event, '\n', '')
    for _ = HISTORY, breaks do event = string.sub(event, string.find(event, '\n', 1, true) + 1) end
  end
  return event
end

-- Note an event in a job's history.
function record.note(key, event) redis.call('HSET', key, 'history', record.noted(key, event)) end

-- Name in a record's field `more` what the job has: a claim reads the fields of that.
function record.has(key, letter)
  local letters = redis.call('HGET', key, 'more') or ''
  if not string.find(letters, letter, 1, true) then redis.call('HSET', key, 'more', letters .. letter) end
end

-- Delete a job and all that belongs to it. A trace says for some seconds how it ended, so that it is not taken for a
-- finished one.
function record.forget(id, how, seconds)
  redis.call('SET', 'jobs:gone:' .. id, how, 'EX', seconds)
  redis.call('UNLINK', prefix .. 'job:' .. id, prefix .. 'results:' .. id, 'jobs:waits:' .. id, 'jobs:unlinked:' .. id)
end
