-- Add up the minutes of an hour that has ended; and, in turn, all that was ever counted. A slice a call.
-- After shared.lua.
--
-- KEYS  the hour's sum, the total, the number of the last hour that is in it, then the counts of the hour's minutes, then
--       the sum of the minutes that are added up so far
-- ARGV  the number of the hour, seconds to keep its sum, '1' to add it to the total
-- Returns the hour's sum; nothing while there is more to add up: then call it again.
--
-- It may be run by several at once, and end anywhere: the field '' of a sum is the number of minutes, or the last hour,
-- that are in it, and is written with them.
allow_writes_when_full() -- the overview of a full server shows them
local hour, total, summed, so_far = KEYS[1], KEYS[2], KEYS[3], KEYS[#KEYS]
local minutes = #KEYS - 4
local AT_ONCE = 1000 -- labels that a call adds up, and at most so many more as a minute has
local WORDS = 2000 -- labels in a command: `unpack` fills Lua's stack, which holds a few thousand values
local added = 0 -- labels

local function add(sum, counted, mark)
  local first = 1
  repeat
    local last = math.min(first + 2 * WORDS - 1, #counted)
    local labels, words = {}, {}
    for at = first, last, 2 do
      if counted[at] ~= '' then labels[#labels + 1] = counted[at] end
    end
    local known = #labels > 0 and write('HMGET', sum, unpack(labels)) or {}
    local n = 0
    for at = first, last, 2 do
      if counted[at] ~= '' then
        n = n + 1
        words[2 * n - 1] = labels[n]
        words[2 * n] = string.format('%.0f', (tonumber(known[n]) or 0) + (tonumber(counted[at + 1]) or 0))
      end
    end
    first = last + 1
    if first > #counted then words[2 * n + 1], words[2 * n + 2] = '', mark end
    if #words > 0 then write('HSET', sum, unpack(words)) end
  until first > #counted
  added = added + #counted / 2
end

if redis.call('EXISTS', hour) == 0 then
  local done = tonumber(write('HGET', so_far, '')) or 0
  while done < minutes do
    if added >= AT_ONCE then return false end
    done = done + 1
    add(so_far, write('HGETALL', KEYS[3 + done]), done)
    if done == 1 then redis.call('EXPIRE', so_far, ARGV[2]) end
  end
  redis.call('EXPIRE', so_far, ARGV[2])
  redis.call('RENAME', so_far, hour) -- readers see all of it or none
end
if ARGV[3] == '1' then
  local last = math.max(tonumber(write('GET', summed)) or 0, tonumber(write('HGET', total, '')) or 0)
  if tonumber(ARGV[1]) > last then
    if added >= AT_ONCE then return false end
    add(total, write('HGETALL', hour), ARGV[1])
  end
  if tonumber(ARGV[1]) >= last then redis.call('SET', summed, ARGV[1]) end
end
if added >= AT_ONCE then return false end
return write('HGETALL', hour)
