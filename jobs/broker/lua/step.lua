-- Commit what a worker has done and claim what it does next, in one atomic step.
--
-- KEYS  the queue lists to claim from, in the order to try them
-- ARGV  1 RQ's key prefix ('rq:')   2 worker name   3 now (ISO)   4 now (seconds)   5 jobs wanted
--       6 number of the first execution to hand out   7 key of this minute's counts   8 seconds to keep those
--       9 number of outcomes   10 seconds without a beat after which a worker is dead   11 dead jobs that a queue keeps
--       12... for each outcome:
--         id, execution, queue, kind, time, label, slow, result type, result, began, event, entry, n, n names and
--         values of job fields
--       kind  F finished (time: result_ttl)  S scheduled (time: due)  H, T head or tail of its queue
--             D dead  C discarded (time: when to forget it, for both)  W waiting  N written by RQ's own code
--       slow  '1' when the attempt ran long enough for a beat to have written RQ's execution record, and for plain jobs
--       began  when the attempt did (seconds), where a result is kept;  event  for the job's history, or ''
--       entry  the recurring entry whose run this is, or ''
-- Returns { outcomes refused, outcomes that failed, what is to be released, claims, registered, trimmed }:
--       refused  position (from 0) of each outcome whose claim this worker no longer holds, who took the job over, and
--                the job's status
--       failed   position and error of outcomes that could not be written; their claims are still held
--       to be released  members of `jobs:releasing`
--       claims   id, queue, execution, payload, timeout, result_ttl, interruptions, whether RQ's own code made the job;
--                where there are any: progress, expiry, whether prerequisites are lacking, context, recurring entry,
--                whether to profile it
--       trimmed  dead jobs that were too many
--
-- It may be sent twice: an outcome is written only while its claim (the wip member `id:execution`) is held, and the
-- claim goes last. Each job is written by itself (pcall): a key of a wrong type or a full server stops nothing else.
local prefix, worker, iso, now = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local want, execution, dead_limit = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[11])
-- Parts: commit, claim

local at, failed, counts = 12, {}, {}
for position = 0, tonumber(ARGV[9]) - 1 do
  local counted, reason = commit.one(at, position)
  local label = ARGV[at + 5]
  if counted and label ~= '' then counts[label] = (counts[label] or 0) + 1 end
  if reason then failed[#failed + 1] = { position, reason } end
  at = at + 13 + 2 * ARGV[at + 12]
end
pcall(function()
  for label, count in pairs(counts) do write('HINCRBY', ARGV[7], label, count) end
  if next(counts) then redis.call('EXPIRE', ARGV[7], ARGV[8]) end
end)

-- A worker that others may declare dead (its parent has not beaten for long) must not claim: they would take the new
-- claims for old ones.
local registered = want == 0
if want > 0 then
  local seen = redis.pcall('ZSCORE', 'jobs:workers', worker)
  registered = type(seen) == 'string' and redis.call('TIME')[1] - seen < tonumber(ARGV[10])
  if not registered then want = 0 end
end
for _, key in ipairs(KEYS) do
  local queue = string.sub(key, #prefix + 7) -- 'rq:' .. 'queue:'
  while want > 0 do
    local listed, ids = pcall(redis.call, 'LRANGE', key, 0, want - 1)
    if not listed or #ids == 0 then break end
    local taken = 0
    for _, id in ipairs(ids) do
      local leaves, claimed = claim.one(queue, id, execution)
      if not leaves then break end
      taken = taken + 1
      if claimed then execution, want = execution + 1, want - 1 end
    end
    if taken > 0 then redis.call('LTRIM', key, taken, -1) end
    if taken < #ids then want = 0 end
  end
end
return { commit.refused, failed, commit.releasing, claim.claims, registered and 1 or 0, commit.trimmed }
