"""How Redis is spoken to: connections, keys, times as RQ writes them, leases, and the Lua scripts."""
