-- Add up the minutes of an hour that has ended; and, in turn, all that was ever counted. A slice a call.
--
-- KEYS  the hour's sum, the total, the number of the last hour that is in it, the sum of what is added up of the hour so
--       far, the next total so far, then the counts of the hour's minutes
-- ARGV  the number of the hour, seconds to keep its sum, '1' to add it to the total
-- Returns 1 when that is done, 0 while there is more to add up: then call it again.
--
-- It may be run by several at once, and end anywhere: the field '' of a sum says how far it is, and is written with it.
-- Readers see all of a sum or none: it is added up aside, and renamed at the end.
-- Parts: server

allow_writes_when_full() -- the overview of a full server shows them
local hour, total, summed, hour_so_far, total_so_far = unpack(KEYS, 1, 5)
local AT_ONCE = 250 -- labels that a call adds up; a few more, as HSCAN gives all of a small hash
local WORDS = 1000 -- labels in a command: `unpack` fills Lua's stack, which holds a few thousand values

-- Add the next slice of the parts, hashes of counts, to a sum. Returns whether all of them are in it.
local function add(sum, parts)
  local done, cursor = string.match(write('HGET', sum, '') or '0 0', '^(%d+) (%d+)$')
  done = tonumber(done)
  if not done or done > #parts or #cursor > 19 then -- not as it is written below: from the beginning
    redis.call('DEL', sum)
    done, cursor = 0, '0'
  end
  local added, last = 0, #parts
  while done < last and added < AT_ONCE do
    local scanned = write('HSCAN', parts[done + 1], cursor, 'COUNT', AT_ONCE)
    local labels, numbers, words = {}, {}, {}
    for at = 1, #scanned[2], 2 do
      if scanned[2][at] ~= '' then
        labels[#labels + 1], numbers[#numbers + 1] = scanned[2][at], tonumber(scanned[2][at + 1]) or 0
      end
    end
    cursor = scanned[1]
    if cursor == '0' then done = done + 1 end
    for first = 1, #labels, WORDS do
      local known = redis.call('HMGET', sum, unpack(labels, first, math.min(first + WORDS - 1, #labels)))
      for at, number in ipairs(known) do
        words[#words + 1] = labels[first + at - 1]
        words[#words + 1] = string.format('%.0f', (tonumber(number) or 0) + numbers[first + at - 1])
      end
    end
    words[#words + 1], words[#words + 2] = '', done .. ' ' .. cursor
    for first = 1, #words, 2 * WORDS do
      redis.call('HSET', sum, unpack(words, first, math.min(first + 2 * WORDS - 1, #words)))
    end
    redis.call('EXPIRE', sum, ARGV[2])
    added = added + #labels
  end
  return done == last
end

if redis.call('EXISTS', hour) == 0 then
  if not add(hour_so_far, { unpack(KEYS, 6) }) then return 0 end
  redis.call('RENAME', hour_so_far, hour)
  if ARGV[3] == '1' then return 0 end
end
if ARGV[3] == '1' then
  local last = math.max(tonumber(write('GET', summed)) or 0, tonumber(write('HGET', total, '')) or 0)
  if tonumber(ARGV[1]) > last then
    if not add(total_so_far, { total, hour }) then return 0 end
    redis.call('HSET', total_so_far, '', ARGV[1]) -- the last hour that is in it
    redis.call('PERSIST', total_so_far)
    redis.call('RENAME', total_so_far, total)
  end
  if tonumber(ARGV[1]) >= last then redis.call('SET', summed, ARGV[1]) end
end
return 1
