"""
A module a system: its jobs and how it enqueues them, written as that system's own documentation does.

The worker of a system imports the same module. Everything is read from the environment: REDIS_URL is the server
(through the delaying proxy for a worker of that load).
"""
