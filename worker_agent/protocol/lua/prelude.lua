-- Common code: the clock, numbered calls (law 3), and the header of a list item.
-- `scripts.py` puts the parts that a script uses before the script. The laws are listed in `__init__.py`.
--
-- A list item is `M1`, the run (8 letters or digits), the task's number (12 digits), its attempt (2 digits),
-- its crashes (1 digit), the format of the body (1 letter), and the body, which no script unpacks.
-- The id of a task is the run and the number: 20 characters.

local HEADER = '^M1%w%w%w%w%w%w%w%w%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%l'
local NEW_HEADER = '^M1%w%w%w%w%w%w%w%w%d%d%d%d%d%d%d%d%d%d%d%d000%l'
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

-- A claim keeps one letter for each of its items: the item's state when it was claimed, or that it is settled.
local NEW, RUN_BEFORE, CRASHED_BEFORE, SETTLED = 'n', 'a', 'c', '.'

-- Return an item's state when it is claimed, or nil for an item without a valid header.
local function state_of(item)
  if string.find(item, NEW_HEADER) then return NEW end
  if not has_header(item) then return nil end
  return crashes_of(item) > 0 and CRASHED_BEFORE or RUN_BEFORE
end

local function with_counts(item, attempt, crashes)
  return string.sub(item, 1, 22) .. string.format('%02d%d', math.min(attempt, 99), math.min(crashes, 9))
    .. string.sub(item, 26)
end

-- Call one command with many values, in pieces: Lua's `unpack` has a limit of about 8,000.
local function call_in_pieces(command, key, values)
  for first = 1, #values, 1000 do
    redis.call(command, key, unpack(values, first, math.min(first + 999, #values)))
  end
end

-- Push a token if there is none. One token is enough to wake one long poll.
local function wake(key)
  if redis.call('LLEN', key) == 0 then redis.call('LPUSH', key, '1') end
end
