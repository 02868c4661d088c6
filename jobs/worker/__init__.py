"""
The worker. `manage.py rqworker` is a parent process that runs no job; its children run jobs in threads.

    parent      beats for its children, promotes due jobs, recovers jobs of dead workers, keeps RQ's registries tidy
    children    starts them, buries them, kills those that cannot mind themselves
    child       one process: its main thread minds the others (time-outs, signals), then lets them go
    threads     each thread: take a job, run it, hand its outcome over, again
    fetch       takes work: one Lua call commits what is done and claims what is next
    doorbell    waits for work without taking it

To the outside each child is an rq worker. A job is at every instant in a structure of Redis that recovery looks at.
"""
