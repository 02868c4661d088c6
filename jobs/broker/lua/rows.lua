-- The records of jobs, as far as a list shows them.
--
-- ARGV  1 how the keys of jobs begin   2 bytes of a payload that is read at most   3 bytes of all payloads together
--       4 number of fields, their names, then the ids
-- Returns for each job: the bytes of its payload, the payload ('' when it is too large), and the fields; or one text,
-- what is wrong with its key. Nothing of it is written.
local records, largest, left, n = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local rows, names = {}, {}
for i = 1, n do names[i] = ARGV[4 + i] end

for i = 5 + n, #ARGV do
  local key = records .. ARGV[i]
  local size = redis.pcall('HSTRLEN', key, 'data')
  if type(size) == 'table' then
    rows[#rows + 1] = size.err
  else
    local row, data = { size }, ''
    if size <= largest and size <= left then
      data, left = redis.call('HGET', key, 'data') or '', left - size
    end
    row[2] = data
    for at, value in ipairs(redis.call('HMGET', key, unpack(names))) do row[2 + at] = value end
    rows[#rows + 1] = row
  end
end
return rows
