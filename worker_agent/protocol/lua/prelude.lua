-- Common code: the clock, numbered calls (law 3), and the header of a list item.
-- `scripts.py` puts the parts that a script uses before the script. The laws are listed in `__init__.py`.
--
-- A list item is `M1`, the run (8 letters or digits), the task's number (12 digits), its attempt (2 digits),
-- its crashes (1 digit), and its form: `m` and the body, which no script unpacks; or `b`, the body's size (8 digits) and
-- the ending of the key under which the body is stored apart. The task's own options may come before: `o`, then `t` and
-- seconds, `r` and retries, `d` and a delay in ms, then `;`. The id of a task is the run and the number: 20 characters.

local HEADER = '^M1%w%w%w%w%w%w%w%w%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%l'
local NEW_HEADER = '^M1%w%w%w%w%w%w%w%w%d%d%d%d%d%d%d%d%d%d%d%d000%l'
local NEW_INLINE = '^M1%w%w%w%w%w%w%w%w%d%d%d%d%d%d%d%d%d%d%d%d000m'
local DEAD_TTL = 86400000
local MAX_CRASHES = 3
local MAX_ATTEMPTS = 98 -- The header has two digits. Beyond them, the attempt could not grow and retries would not end.

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Return when the namespace was last swept, in ms; 0 if an agent wrote a value that is not a number.
local function swept_ms(fleet_key) return tonumber(redis.call('HGET', fleet_key, 'swept_ms') or '') or 0 end
-- A little less than the second between two heartbeats, so that each heartbeat of a single agent leads to a sweep.
local SWEEP_MS = 800
-- The condition is negated so that it is true for a time that is NaN.
local function is_sweep_due(swept, now) return not (swept <= now and now - swept < SWEEP_MS) end

-- Check the number of a call. Return nil and the number of the last call if the call may run. Otherwise return the
-- reply with which the script must end, before it has changed anything.
local function check_number(actor_key, number)
  local record = redis.call('HMGET', actor_key, 'number', 'answer', 'dead')
  if not record[1] or record[3] then return {'lost'} end
  local last = tonumber(record[1])
  if number == last then return {'again', record[2] or ''} end
  if number < last then return {'stale'} end
  return nil, last
end

-- Store the number of a call and its answer. A script does this last: if Redis has no memory for its earlier writes,
-- the number is not stored either.
local function store_answer(actor_key, number, answer)
  redis.call('HSET', actor_key, 'number', string.format('%d', number), 'answer', answer)
end

local function has_header(item) return string.find(item, HEADER) ~= nil end
local function id_of(item) return string.sub(item, 3, 22) end
local function attempt_of(item) return tonumber(string.sub(item, 23, 24)) end
local function crashes_of(item) return tonumber(string.sub(item, 25, 25)) end

-- Return where the letter `m` or `b` of an item's form is.
local function form_at(item)
  if string.sub(item, 26, 26) ~= 'o' then return 26 end
  return (string.find(item, ';', 27, true) or 26) + 1
end
local function is_apart(item)
  local at = form_at(item)
  return string.sub(item, at, at) == 'b'
end
-- Return how many bytes an item adds to a claim. A body that is stored apart counts a quarter: no script copies it, and
-- an agent that fetches several at once is a fifth faster.
local function size_of(item)
  if not is_apart(item) then return #item end
  local at = form_at(item)
  return #item + (tonumber(string.match(item, '^%d%d%d%d%d%d%d%d', at + 1) or '') or 0) / 4
end
-- Return one of the item's own options: its number, or nil.
local function option_of(item, letter)
  if string.sub(item, 26, 26) ~= 'o' then return nil end
  local text = string.sub(item, 27, form_at(item) - 2)
  return #text <= 40 and tonumber(string.match(text, letter .. '(%d+)') or '') or nil
end

-- A claim keeps one letter for each of its items: the item's state when it was claimed, or that it is settled.
local NEW, RUN_BEFORE, CRASHED_BEFORE, SETTLED = 'n', 'a', 'c', '.'

-- Return an item's state when it is claimed, and how many bytes it brings; nil for an item without a valid header.
local function state_of(item)
  if string.find(item, NEW_INLINE) then return NEW, #item end -- Most items.
  if string.find(item, NEW_HEADER) then return NEW, size_of(item) end
  if not has_header(item) then return nil end
  return crashes_of(item) > 0 and CRASHED_BEFORE or RUN_BEFORE, size_of(item)
end

local function with_counts(item, attempt, crashes)
  return string.sub(item, 1, 22) .. string.format('%02d%d', math.min(attempt, 99), math.min(crashes, 9))
    .. string.sub(item, 26)
end

-- Return a number from 0 to 1 that looks random and is always the same for a text.
local function fraction_of(text) return tonumber(string.sub(redis.sha1hex(text), 1, 8), 16) / 0xFFFFFFFF end

-- Call one command with many values, in pieces: Lua's `unpack` has a limit of about 8,000.
local function call_in_pieces(command, key, values)
  for first = 1, #values, 1000 do
    redis.call(command, key, unpack(values, first, math.min(first + 999, #values)))
  end
end

-- Return the maps of a task's failed runs, or nil if an agent wrote something else.
local function maps_of(reasons)
  local function collect(unpacked, ...) return unpacked and select('#', ...) or 0, {...} end
  local count, maps = collect(pcall(cmsgpack.unpack, reasons))
  for i = 1, count do
    if type(maps[i]) ~= 'table' then return nil end
  end
  return count > 0 and maps or nil
end

-- Store each traceback once, with the number of its uses, and return the reasons with the tracebacks' digests instead.
local function with_digests(reasons, traces_key, uses_key)
  local maps = maps_of(reasons)
  if not maps then return reasons end
  local packed = {}
  for i, map in ipairs(maps) do
    if type(map.traceback) == 'string' and #map.traceback > 0 then
      map.trace = string.sub(redis.sha1hex(map.traceback), 1, 16)
      redis.call('HSETNX', traces_key, map.trace, map.traceback)
      redis.call('HINCRBY', uses_key, map.trace, 1)
      map.traceback = nil
    end
    packed[i] = cmsgpack.pack(map)
  end
  return table.concat(packed)
end

-- Move a task into the FailChannel, with the reasons of its former runs and of the last one. `at` has the keys of the
-- channel: failed, failed_at, reasons, retry_reasons, traces, trace_uses.
local function move_to_failed(at, now, id, item, reason)
  redis.call('HSETNX', at.failed, id, item)
  redis.call('ZADD', at.failed_at, now, id)
  if redis.call('HEXISTS', at.reasons, id) == 0 then
    local reasons = (redis.call('HGET', at.retry_reasons, id) or '') .. reason
    redis.call('HSETNX', at.reasons, id, with_digests(reasons, at.traces, at.trace_uses))
  end
  redis.call('HDEL', at.retry_reasons, id)
end

-- Count the uses of the tracebacks in these reasons down, and delete those that are no longer used.
local function release_traces(reasons, traces_key, uses_key)
  for _, map in ipairs(reasons and maps_of(reasons) or {}) do
    if type(map.trace) == 'string' and redis.call('HINCRBY', uses_key, map.trace, -1) <= 0 then
      redis.call('HDEL', uses_key, map.trace)
      redis.call('HDEL', traces_key, map.trace)
    end
  end
end

-- Push a token if there is none. One token is enough to wake one long poll.
local function wake(key)
  if redis.call('LLEN', key) == 0 then redis.call('LPUSH', key, '1') end
end
