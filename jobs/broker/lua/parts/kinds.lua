-- The kinds of jobs: async ones (the letter `a` in `more`) for tasks of the event loop, all others for threads. A worker of
-- threads alone asks for no kind. While there is no room for a kind, its jobs stay where they are in the list.
-- Of the script: `prefix`, `idle`.
local kinds = { room = nil, left = nil } -- left: 1 once a job stayed

-- How many jobs are wanted; notes the room of each kind, by whether it is async. `word`: for threads, and for tasks.
function kinds.wanted(word)
  local threads, tasks = string.match(word, '^(%d+) (%d+)$')
  kinds.room = { [false] = tonumber(threads), [true] = tonumber(tasks) }
  kinds.threads = kinds.room[false]
  return threads + tasks
end

-- Whether a job is async.
function kinds.of(id)
  local letters = redis.pcall('HGET', prefix .. 'job:' .. id, 'more')
  return type(letters) == 'string' and string.find(letters, 'a', 1, true) ~= nil
end

-- Whether a job of that kind may be claimed. If not, it stays.
function kinds.has_room(kind)
  if kinds.room[kind] > 0 then return true end
  kinds.left = 1
  return false
end

-- No thread is idle for a job with limits, which is to begin at once.
function kinds.is_full(kind)
  kinds.room[kind], kinds.left = 0, 1
  return true
end

function kinds.take(kind) kinds.room[kind] = kinds.room[kind] - 1 end

-- Whether a job that is claimed next begins at once. A task does.
function kinds.is_idle(kind) return kind or kinds.threads - kinds.room[false] < idle end

-- Take those of these ids off their list that do not stay. The first of them stands at `from`. Returns how many stay.
function kinds.take_off(key, from, ids, taken, stay)
  local staying = 0
  for at = 1, taken do
    if stay[at] then staying = staying + 1 end
  end
  if from + staying == 0 then
    if taken > 0 then redis.call('LTRIM', key, taken, -1) end
  else
    for at = 1, taken do
      if not stay[at] then redis.call('LREM', key, 1, ids[at]) end
    end
  end
  return staying
end
