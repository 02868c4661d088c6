"""Runs the package's Lua scripts in this process: by lupa, in Lua 5.1 as on a server, on commands in Python."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import takewhile
from typing import Any

from redis.exceptions import ResponseError

from jobs.broker.connections import Script
from jobs.errors import MissingExtraError
from jobs.testing.keyspace import Status

Commands = Mapping[bytes, Callable[..., Any]]  # by their names; they take bytes and raise ResponseError

# What a server gives a script. The first function runs a script: it returns whether the script came to its end, and the
# answer or the error. The second one returns the status, the error and the items of a table.
_PRELUDE = b"""
local encode, decode, null = ...
collectgarbage('setpause', 1000) -- little stays of a run: collect when there is ten times as much
local cjson = { encode = encode, decode = decode, null = null }
local globals = {}
for _, name in ipairs({ 'assert', 'error', 'getmetatable', 'ipairs', 'loadstring', 'math', 'next', 'pairs', 'pcall',
  'rawequal', 'rawget', 'rawset', 'select', 'setmetatable', 'string', 'table', 'tonumber', 'tostring', 'type', 'unpack',
  'xpcall', '_VERSION' }) do globals[name] = _G[name] end
setmetatable(globals, { __index = function(_, name)
  error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
end })
local function refuse(_, name) error("Script attempted to set the global variable '" .. tostring(name) .. "'", 2) end

local function run_script(script, run, KEYS, ARGV)
  local redis = { pcall = run, call = function(...)
    local answer = run(...)
    if type(answer) == 'table' and answer.err then error(answer, 0) end
    return answer
  end }
  local names = { redis = redis, cjson = cjson, KEYS = KEYS, ARGV = ARGV }
  names = setmetatable(names, { __index = globals, __newindex = refuse })
  local done, answer = pcall(setfenv(script, names))
  return done, answer
end

return run_script, function(answer) return answer.ok, answer.err, unpack(answer) end
"""

_ESCAPES = {b"\\": b"\\\\", b'"': b'\\"', b"/": b"\\/", b"\b": b"\\b", b"\f": b"\\f"}
_ESCAPES |= {b"\n": b"\\n", b"\r": b"\\r", b"\t": b"\\t"}
_ESCAPED = re.compile(rb'[\x00-\x1f\x7f"\\/]')


class Interpreter:
    """One Lua, for all kits of the process."""

    def __init__(self) -> None:
        try:
            from lupa import lua51
        except ImportError as error:
            raise MissingExtraError("The testing kit", "lupa", "testing") from error
        self._type: Callable[[Any], str | None] = lua51.lua_type
        self._lua = lua51.LuaRuntime(encoding=None, register_eval=False, register_builtins=False)
        self._table: Callable[..., Any] = self._lua.table_from
        self._null = self._lua.eval(b"newproxy()")
        self._compile = self._lua.eval(b"function(text) return assert(loadstring(text, '@user_script')) end")
        self._run, self._unpack = self._lua.execute(_PRELUDE, self._encode, self._decode, self._null)
        self._compiled: dict[str, Any] = {}  # by the digest of the script

    def run(self, script: Script, commands: Commands, keys: Sequence[bytes], arguments: Sequence[bytes]) -> Any:
        """
        Run a script. Returns its answer as the wire carries it. Raises ResponseError as a server would answer it, and
        whatever else a command raises, even if the script goes on after it.
        """
        faults: list[Exception] = []

        def call(name: bytes, *words: Any) -> Any:
            try:
                answer = commands[name](*[word if type(word) is bytes else _sent(word) for word in words])
                return answer if type(answer) in _PLAIN else self._to_lua(answer)
            except ResponseError as error:
                return self._table({b"err": str(error).encode()})
            except Exception as error:
                faults.append(error)
                raise

        compiled = self._compiled.get(script.sha)
        if compiled is None:
            compiled = self._compiled[script.sha] = self._compile(script.text.encode())
        is_done, answer = self._run(compiled, call, self._table(keys), self._table(arguments))
        if faults:
            raise faults[0]
        if not is_done:
            raise ResponseError(self._error(answer))
        return self._from_lua(answer)

    def _to_lua(self, answer: Any) -> Any:
        if answer is None:
            return False
        if type(answer) is list:
            return self._table([self._to_lua(each) for each in answer])
        return self._table({b"ok": bytes(answer)}) if type(answer) is Status else answer

    def _from_lua(self, value: Any) -> Any:
        if value is None or value is False:
            return None
        if isinstance(value, int | float):  # True is 1
            return int(value)
        if self._type(value) != "table":
            return value
        status, error, *items = self._unpack(value)
        if error is not None:
            raise ResponseError(self._error(value))
        if status is not None:
            return status
        return [self._from_lua(item) for item in takewhile(_is_not_nil, items)]

    def _error(self, answer: Any) -> str:
        text = answer[b"err"] if self._type(answer) == "table" else answer
        return text.decode(errors="replace") if isinstance(text, bytes) else str(text)

    # --- cjson -----------------------------------------------------------------------------------

    def _decode(self, text: bytes) -> Any:
        return self._decoded(json.loads(text.decode(errors="surrogateescape")))

    def _decoded(self, value: Any) -> Any:
        if value is None:
            return self._null
        if isinstance(value, str):
            return value.encode(errors="surrogateescape")
        if isinstance(value, list):
            return self._table([self._decoded(each) for each in value])
        if isinstance(value, dict):
            return self._table({self._decoded(name): self._decoded(each) for name, each in value.items()})
        return value if isinstance(value, bool) else float(value)

    def _encode(self, value: Any) -> bytes:
        if value is None or self._type(value) == "userdata":
            return b"null"
        if isinstance(value, bytes):
            return b'"' + _ESCAPED.sub(lambda found: _ESCAPES.get(found[0]) or b"\\u%04x" % ord(found[0]), value) + b'"'
        if isinstance(value, bool):
            return b"true" if value else b"false"
        if isinstance(value, int | float):
            return b"%.14g" % value
        if self._type(value) != "table":
            raise ValueError(f"Cannot serialise {value!r}")
        members = dict(value.items())
        if members and all(type(name) is int for name in members):
            return b"[" + b",".join(self._encode(members.get(at)) for at in range(1, max(members) + 1)) + b"]"
        pairs = (self._encode(_name(name)) + b":" + self._encode(each) for name, each in members.items())
        return b"{" + b",".join(pairs) + b"}"


_PLAIN = (bytes, int)


def _is_not_nil(item: Any) -> bool:
    return item is not None  # a server's answer ends at the first


def _sent(word: Any) -> bytes:
    if type(word) is int:
        return b"%d" % word
    if type(word) is float:
        return b"%.17g" % word
    raise ResponseError("Lua redis lib command arguments must be strings or integers")


def _name(name: Any) -> Any:
    return b"%.14g" % name if isinstance(name, int | float) else name


@cache
def interpreter() -> Interpreter:
    """Return the process's interpreter. Raises MissingExtraError without lupa."""
    return Interpreter()
