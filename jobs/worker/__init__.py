"""
The worker. `manage.py rqworker` is a parent process that runs no job; its children run jobs in threads.

    parent      beats for its children, promotes due jobs, recovers jobs of dead workers, keeps RQ's registries tidy
    children    starts them, buries them, kills those that stall
    child       one process: its main thread minds the others (time-outs, signals), and ends the process
    threads     each thread: take a job, run it, hand its outcome over, again
    fetch       takes work: one Lua call commits finished jobs and claims the next ones
    doorbell    waits for work without taking it
    doormen     which idle workers watch the queues, and how they wake the others

To other tools each child is an rq worker. A job is at every instant in a structure of Redis that recovery reads.
"""
