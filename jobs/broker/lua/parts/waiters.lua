-- Parts: server
-- Wakes the processes that wait for a job (wait.lua). A message is what has happened and the id; they read the rest.
local waiters = { wake = 0 }

function waiters.wake(what, id)
  for _, process in ipairs(write('SMEMBERS', 'jobs:waiters:' .. id)) do
    redis.pcall('PUBLISH', 'jobs:woken:' .. process, what .. ' ' .. id)
  end
end
