-- The record of a job. Of the script: `prefix`.
local record = {}

local HISTORY = 100 -- events kept on a job; the oldest go first
local ENDED = { finished = true, failed = true, canceled = true, stopped = true } -- statuses of jobs that have

-- Note an event, a line of JSON, in a job's history.
function record.note(key, event)
  local known = redis.call('HGET', key, 'history')
  if known then
    event = known .. '\n' .. event
    local _, breaks = string.gsub(event, '\n', '')
    for _ = HISTORY, breaks do event = string.sub(event, string.find(event, '\n', 1, true) + 1) end
  end
  redis.call('HSET', key, 'history', event)
end

-- Delete a job and all that belongs to it. A trace says for some seconds how it ended, so that it is not taken for a
-- finished one.
function record.forget(id, how, seconds)
  redis.call('SET', 'jobs:gone:' .. id, how, 'EX', seconds)
  redis.call('UNLINK', prefix .. 'job:' .. id, prefix .. 'results:' .. id, 'jobs:waits:' .. id, 'jobs:unlinked:' .. id)
end
