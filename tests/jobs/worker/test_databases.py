"""Connections that the threads of an attempt have opened are closed once their threads have ended."""

import threading
from types import SimpleNamespace

from jobs.worker import databases as module
from jobs.worker.databases import Databases, _elsewhere, _opened


class Connection:
    alias, connection, settings_dict = "default", None, {"AUTOCOMMIT": True}

    def __init__(self, closed):
        self.closed = closed

    def inc_thread_sharing(self):
        """Called before another thread may close it."""

    def close(self):
        self.closed.append(self)


class Growing(list):
    """Another thread appends to it when the first loop over it has seen the last item."""

    def __init__(self, items, grow):
        super().__init__(items)
        self.grow = grow

    def __iter__(self):
        yield from super().__iter__()
        grow, self.grow = self.grow, None
        if grow:
            grow()


def test_one_that_is_opened_while_those_of_ended_threads_are_closed_is_closed_later(monkeypatch):
    monkeypatch.setattr(module, "_here", threading.local())  # this is no job thread
    databases, closed = Databases.__new__(Databases), []
    first, second, late = (Connection(closed) for _ in range(3))
    ended, living = SimpleNamespace(is_alive=lambda: False), SimpleNamespace(is_alive=lambda: True)
    databases._elsewhere = Growing([(first, ended), (second, living)], lambda: _opened(late))
    token = _elsewhere.set(databases._elsewhere)
    try:
        databases._close_elsewhere(claim=None)
        assert closed == [first]
        assert [each for each, _ in databases._elsewhere] == [second, late]

        databases._elsewhere[:] = [(second, ended), (late, ended)]
        databases._close_elsewhere(claim=None)
        assert closed == [first, second, late]
    finally:
        _elsewhere.reset(token)
