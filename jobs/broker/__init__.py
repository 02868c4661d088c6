"""Access to Redis: connections, keys, times as RQ writes them, leases, and the Lua scripts."""
