local ENDED = { finished = true, failed = true, canceled = true, stopped = true } -- statuses of jobs that have
