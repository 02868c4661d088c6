-- Commit what a worker has done and claim what it does next, in one atomic step.
--
-- KEYS  the queue lists to claim from, in the order to try them
-- ARGV  1 RQ's key prefix ('rq:')   2 worker name   3 now (ISO)   4 now (seconds)
--       5 jobs wanted; or two numbers: for threads, and for the event loop
--       6 number of the first execution to hand out   7 key of this minute's counts   8 seconds to keep those
--       9 number of outcomes   10 seconds without a beat after which a worker is dead   11 dead jobs that a queue keeps
--       12 threads that are idle: jobs with limits are claimed for these   13 '1' to wake the lanes that are due
--       14... seven words of each outcome: id, execution, queue, kind, time, label, letters of what it has more
--         kind   F finished (time: result_ttl)  S scheduled (time: due)  H, T head or tail of its queue
--                D dead  C discarded (time: when to forget it, for both)  W waiting  N written by RQ's own code
--         label  under which the attempt is counted, or ''
--       then the further words of each, in the order of its letters:
--         x (no word) the attempt ran long enough for a beat to have written RQ's execution record; and for plain jobs
--         k (no word) the outbox has the job until it ends
--         r type of the result that is kept   v the result   b when the attempt began (seconds), for a failed one
--         g ids of the batches whose member the job is, with spaces
--         e event for the job's history, for F only of a job that was cancelled meanwhile   s the recurring entry whose run this is
--         l a line: `f`; of an attempt that was not begun `r`, whose tokens are returned even if the outcome is refused, or
--           `q` if the outcome was sent before: only if it is accepted, so that none is returned twice; `s`, seconds and the numbers of limits that pause so long;
--           then the limits that the attempt held (part `admit`)
--         f number of fields of the job's record, their names and values
-- Returns { outcomes refused, outcomes that failed, what is to be released, claims, registered, trimmed, due }:
--       refused  position (from 0) of each outcome whose claim this worker no longer holds, who took the job over, and
--                the job's status
--       failed   position and error of outcomes that could not be written; their claims are still held
--       to be released  members of `jobs:releasing`
--       claims   of each: id, queue, execution, payload, and '' or a list of what few jobs have: timeout, result_ttl,
--                interruptions, whether RQ's own code made the job, the letters of `more`; where there are any: progress,
--                expiry, whether prerequisites are lacking, context, recurring entry, whether to profile it, whether
--                the outbox keeps it, limits, how far its steps have come, ids of the batches whose
--                member it is, the batch that it calls back for, what it does if a step before it ends badly
--       trimmed  dead jobs that were too many
--       due      seconds until the next lane is due, 0 to be asked again at once, '' if this step has not looked
--       left     1 if two numbers are wanted, and jobs of a kind without room were left in place
--
-- It may be sent twice: an outcome is written only while its claim (the wip member `id:execution`) is held, and the
-- claim goes last. Each job is written by itself (pcall): a key of a wrong type or a full server stops nothing else.
local prefix, worker, iso, now = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local execution, dead_limit, idle = tonumber(ARGV[6]), tonumber(ARGV[11]), tonumber(ARGV[12])
local outcomes, further = 14, 14 + 7 * ARGV[9] -- where the words of outcomes begin, and the next of the further ones
-- Parts: commit, claim
local want = tonumber(ARGV[5]) or rare.kinds.wanted(ARGV[5])
local LOOK = 100 -- so many jobs of a list may stay where they are, then no more of it is looked at

local function wake() return rawget(rare, 'admit') and rare.admit.wake_marked() end
local function is_enough() return rawget(rare, 'admit') and rare.admit.moved >= rare.admit.AT_ONCE end

for position = 0, ARGV[9] - 1 do commit.one(position) end
commit.finish(ARGV[7], ARGV[8])
if ARGV[13] == '1' then rare.admit.wake_due(50) end
wake()

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
  local left, from = want - claim.number, 0 -- from: jobs before that position stay where they are
  while left > 0 and from < LOOK do
    local looks_at = rawget(rare, 'admit') and rare.admit.moved > 0 and math.max(left, rare.admit.AT_ONCE) or left -- many of them may have to wait for their limits
    if rawget(rare, 'kinds') then looks_at = math.max(left, LOOK - from) end
    local listed, ids = pcall(redis.call, 'LRANGE', key, from, from + math.min(looks_at, claim.AT_ONCE) - 1)
    if not listed or #ids == 0 then break end
    local taken, stay = claim.some(queue, ids, execution + claim.number, left)
    local staying = 0
    if rawget(rare, 'kinds') then
      staying = rare.kinds.take_off(key, from, ids, taken, stay)
    elseif taken > 0 then
      redis.call('LTRIM', key, taken, -1)
    end
    from = wake() and staying < taken and 0 or from + staying -- those that are woken stand before all others
    left = want - claim.number
    if taken < #ids and left > 0 then claim.is_over = true end -- the server refuses to write, or no thread is idle
    if claim.is_over or is_enough() then want, left = 0, 0 end
  end
end
return { commit.refused, commit.failed, commit.releasing, claim.words or {}, registered and 1 or 0, commit.trimmed,
  is_enough() and '0' or (rawget(rare, 'admit') or ARGV[13] == '1') and rare.admit.next_due() or '', rawget(rare, 'kinds') and rare.kinds.left or nil }
