-- Stands before every script: the clock, the numbered call (law 3) and the header of a list item.
--
-- A list item is `M1`, the run (8 letters or digits), the task's number (12 digits), its attempt (2 digits),
-- its crashes (1 digit), the body's format (1 letter), and the body, which no script unpacks.
-- A task's id is the run and the number: 20 characters.

local HEADER = '^M1%w%w%w%w%w%w%w%w%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%l'
local NEW_HEADER = '^M1%w%w%w%w%w%w%w%w%d%d%d%d%d%d%d%d%d%d%d%d000%l'
local DEAD_TTL = 86400000
local MAX_CRASHES = 3
local MAX_ATTEMPTS = 98 -- The header has two digits; a count that stood still would retry for ever.

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- When the namespace was last swept, ms; 0 where an agent wrote what is no time.
local function swept_ms(fleet_key) return tonumber(redis.call('HGET', fleet_key, 'swept_ms') or '') or 0 end
-- A little less than the second between two reports of one agent, so that each report of a sole one brings a sweep.
local SWEEP_MS = 800
-- Asked the other way round, so that a time that is not a number lets a sweep come.
local function is_sweep_due(swept, now) return not (swept <= now and now - swept < SWEEP_MS) end

-- nil and the last call's number when the call may go on; otherwise the reply that ends it, having changed nothing.
local function refuse(actor_key, number)
  local record = redis.call('HMGET', actor_key, 'number', 'answer', 'dead')
  if not record[1] or record[3] then return {'lost'} end
  local last = tonumber(record[1])
  if number == last then return {'again', record[2] or ''} end
  if number < last then return {'stale'} end
  return nil, last
end

-- Written last, so that a script that Redis refuses for want of memory leaves no number behind.
local function remember(actor_key, number, answer)
  redis.call('HSET', actor_key, 'number', string.format('%d', number), 'answer', answer)
end

local function has_header(item) return string.find(item, HEADER) ~= nil end
local function id_of(item) return string.sub(item, 3, 22) end
local function attempt_of(item) return tonumber(string.sub(item, 23, 24)) end
local function crashes_of(item) return tonumber(string.sub(item, 25, 25)) end

-- A claim keeps a letter for each of its items: it had never run, it had, it had crashed; it is settled.
local NEW, RUN_BEFORE, CRASHED_BEFORE, SETTLED = 'n', 'a', 'c', '.'

-- nil for what is not ours.
local function state_of(item)
  if string.find(item, NEW_HEADER) then return NEW end
  if not has_header(item) then return nil end
  return crashes_of(item) > 0 and CRASHED_BEFORE or RUN_BEFORE
end

local function with_counts(item, attempt, crashes)
  return string.sub(item, 1, 22) .. string.format('%02d%d', math.min(attempt, 99), math.min(crashes, 9))
    .. string.sub(item, 26)
end

-- One command over many values, in pieces that stay below Lua's limit of about 8,000 on `unpack`.
local function spread(command, key, values)
  for first = 1, #values, 1000 do
    redis.call(command, key, unpack(values, first, math.min(first + 999, #values)))
  end
end

-- A token wakes one waiter; more than one token would only wake it twice.
local function wake(key)
  if redis.call('LLEN', key) == 0 then redis.call('LPUSH', key, '1') end
end
