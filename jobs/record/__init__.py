"""The data of one job in Redis: payload and arguments, history, prerequisites, state; and which of it may be shown."""
