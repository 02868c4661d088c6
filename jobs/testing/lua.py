"""Runs the package's Lua scripts in this process: by lupa, in Lua 5.1 as on a server, on commands in Python."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from redis.exceptions import ResponseError

from jobs.broker.connections import Script
from jobs.errors import MissingExtraError
from jobs.testing.keyspace import Status

MOST_ON_STACK = 4_000  # words that are passed as values, without a table
Commands = Mapping[bytes, Callable[..., Any]]  # by their names; they take bytes and raise ResponseError

# What a server gives a script. A command's answer comes as one value, as nil and the items of a list, or as true and
# the status or the error. A script's answer goes back as a flat list, where true and a number begin a list of so many.
_PRELUDE = b"""
local encode, decode, null, sha1hex = ...
collectgarbage('setpause', 1000) -- little stays of a run: collect when there is ten times as much
local run -- the commands' function, of the script that runs
local globals = { cjson = { encode = encode, decode = decode, null = null } }
for _, name in ipairs({ 'assert', 'error', 'getmetatable', 'ipairs', 'loadstring', 'math', 'next', 'pairs', 'pcall',
  'rawequal', 'rawget', 'rawset', 'select', 'setmetatable', 'string', 'table', 'tonumber', 'tostring', 'type', 'unpack',
  'xpcall', '_VERSION' }) do globals[name] = _G[name] end
local lacking = { bit = true, cmsgpack = true, os = true, struct = true }
setmetatable(globals, { __index = function(_, name)
  if lacking[name] then return run('Lua library ' .. name) end
  error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
end })

local function shaped(first, ...)
  if first == nil then return { ... } end
  if first ~= true then return first end
  local status, err = ...
  return { ok = status, err = err }
end
local redis = { sha1hex = sha1hex, LOG_DEBUG = 0, LOG_VERBOSE = 1, LOG_NOTICE = 2, LOG_WARNING = 3,
  log = function() end,
  status_reply = function(text) return { ok = text } end,
  error_reply = function(text) return { err = string.find(text, ' ', 1, true) and text or 'ERR ' .. text } end,
  pcall = function(...) return shaped(run(...)) end,
  call = function(...)
    local answer = shaped(run(...))
    if type(answer) == 'table' and answer.err then error(answer, 0) end
    return answer
  end }
globals.redis = setmetatable(redis, { __index = function(_, name) return run('redis.' .. tostring(name)) end })
local names = setmetatable({}, { __index = globals, __newindex = function(_, name)
  error("Script attempted to set the global variable '" .. tostring(name) .. "'", 2)
end })

local function flatten(value, flat)
  local kind, at = type(value), #flat + 1
  if kind == 'number' or kind == 'string' then
    flat[at] = value
  elseif kind ~= 'table' then
    flat[at] = value == true and 1 or false
  elseif value.err or value.ok then
    if value.err then error(value, 0) end
    flat[at] = value.ok
  else
    local items = 0
    flat[at], flat[at + 1] = true, 0
    for _, item in ipairs(value) do -- up to the first nil
      items = items + 1
      flatten(item, flat)
    end
    flat[at + 1] = items
  end
end

local MOST = 4000 -- values on Lua's stack
local function part(flat, first) return unpack(flat, first, math.min(#flat, first + MOST - 1)) end

local function run_script(script, commands, keys, many, ...)
  local before = run
  run = commands
  rawset(names, 'KEYS', keys)
  rawset(names, 'ARGV', many or { ... })
  local flat = {}
  local done, answer = pcall(script)
  if done then done, answer = pcall(flatten, answer, flat) end
  run = before
  rawset(names, 'KEYS', nil)
  rawset(names, 'ARGV', nil)
  if not done then return nil, type(answer) == 'table' and answer.err or tostring(answer) end
  return #flat > MOST and flat, part(flat, 1)
end

return run_script, part, function(text) return setfenv(assert(loadstring(text, '@user_script')), names) end
"""

_ESCAPES = {b"\\": b"\\\\", b'"': b'\\"', b"/": b"\\/", b"\b": b"\\b", b"\f": b"\\f"}
_ESCAPES |= {b"\n": b"\\n", b"\r": b"\\r", b"\t": b"\\t"}
_ESCAPED = re.compile(rb'[\x00-\x1f\x7f"\\/]')


class Interpreter:
    """One Lua, for all kits of the process. It runs one script at a time, whatever the number of threads."""

    def __init__(self) -> None:
        try:
            from lupa import lua51
        except ImportError as error:
            raise MissingExtraError("The testing kit", "lupa", "testing") from error
        self._type: Callable[[Any], str | None] = lua51.lua_type
        options = {"register_eval": False, "register_builtins": False, "unpack_returned_tuples": True}
        self._lua = lua51.LuaRuntime(encoding=None, **options)
        self._table: Callable[..., Any] = self._lua.table_from
        self._null = self._lua.eval(b"newproxy()")
        about = self._encode, self._decode, self._null, _sha1hex
        self._run, self._part, self._compile = self._lua.execute(_PRELUDE, *about)
        self._compiled: dict[str, Any] = {}  # by the digest of the script

    def run(self, script: Script, commands: Commands, keys: Sequence[bytes], arguments: Sequence[bytes]) -> Any:
        """
        Run a script. Returns its answer as the wire carries it. Raises ResponseError as a server would answer it, and
        whatever else a command raises, even if the script goes on after it.
        """
        faults: list[BaseException] = []

        def call(name: bytes, *words: Any) -> Any:
            try:
                answer = commands[name](*[word if type(word) is bytes else _sent(word) for word in words])
            except ResponseError as error:
                return True, None, str(error).encode()
            except BaseException as error:
                faults.append(error)
                raise
            kind = type(answer)
            if kind is bytes or kind is int:
                return answer
            return False if answer is None else self._answered(answer)

        compiled = self._compiled.get(script.sha)
        if compiled is None:
            compiled = self._compiled[script.sha] = self._compile(script.text.encode())
        words = (self._table(arguments),) if len(arguments) > MOST_ON_STACK else (None, *arguments)
        many, *flat = self._run(compiled, call, self._table(keys), *words)
        if faults:
            raise faults[0]
        if many is None:
            raise ResponseError(flat[0].decode(errors="replace"))
        while many and len(flat) < len(many):
            flat += self._part(many, len(flat) + 1)
        return _nested(iter(flat))

    def _answered(self, answer: Any) -> Any:
        """Return a status or a list as the prelude takes it."""
        if type(answer) is Status:
            return True, bytes(answer)
        if len(answer) > MOST_ON_STACK:
            return self._to_lua(answer)
        return None, *[item if type(item) is bytes else self._to_lua(item) for item in answer]

    def _to_lua(self, answer: Any) -> Any:
        if answer is None:
            return False
        return self._table([self._to_lua(each) for each in answer]) if type(answer) is list else answer

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


def _nested(flat: Iterator[Any]) -> Any:
    """Return the next answer of a flat list."""
    value = next(flat)
    if value is True:
        return [_nested(flat) for _ in range(next(flat))]
    if value is False:
        return None
    return value if type(value) is bytes else int(value)


def _sha1hex(text: bytes) -> bytes:
    return hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()


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
