-- Push items of the generator into a channel and count them in the same step.
-- KEYS[1] actor's record  HASH
-- KEYS[2] meta            HASH
-- KEYS[3] counters (`books`)        HASH: allotted, cursor, capacity, exhausted, halted, ...
-- KEYS[4] waiting         LIST
-- KEYS[5] results         LIST
-- KEYS[6] channel's token LIST
-- KEYS[7] desired_server (`wish:server`)  HASH: allot
-- KEYS[8] agent_counters (`tally`)  HASH: starved
-- KEYS[9] marks           HASH: number of every 1,000th item (from a million on, of every 100,000th) -> its digest;
--                         `last` -> number and digest of the last item
-- KEYS[10] delayed  ZSET item -> due, ms
-- ARGV[1] actor  ARGV[2] number  ARGV[3] the count at which the server continues
-- ARGV[4] '1' if the generator ends after these items  ARGV[5] why the feed stops after them, or ''
-- ARGV[6] '1' if one of the items has a delay of its own
-- ARGV[7..] items
-- Returns {'ok', taken, waiting, why no more: '' | 'full' | 'results' | 'paused' | 'ended'}
--         | {'again', the same as text} | {'superseded', record of the successor} | {'moved', count}
--         | {'lost'} | {'stale'}
--         | {'gone'} if another program deleted the keys of the namespace
-- Laws: the generator's place is saved with its tasks (5); waiting never rises above the capacity here (6). An item with
-- a delay takes no place before it is due; a channel takes no such item while it has `MAX_DELAYED` delayed tasks.

local MAX_DELAYED = 100000
local number, items = tonumber(ARGV[2]), #ARGV - 6
local meta = redis.call('HMGET', KEYS[2], 'server', 'results_max', 'protocol')
if not meta[3] then return {'gone'} end
if (meta[1] or '') ~= ARGV[1] then
  return {'superseded', meta[1] and redis.call('HGET', KEYS[2], 'server_record') or ''}
end
local refused = check_number(KEYS[1], number)
if refused then return refused end
local counters = redis.call('HMGET', KEYS[3], 'cursor', 'capacity', 'halted', 'allotted')
if tonumber(counters[1] or '0') ~= tonumber(ARGV[3]) then return {'moved', counters[1] or '0'} end
local waiting, results = redis.call('LLEN', KEYS[4]), redis.call('LLEN', KEYS[5])
local desired, tokens = redis.call('HGET', KEYS[7], 'allot'), redis.call('LLEN', KEYS[6])
redis.call('HLEN', KEYS[8])
redis.call('HLEN', KEYS[9])
local cursor, allotted = tonumber(counters[1] or '0'), tonumber(counters[4] or '0') + 0

-- The digest covers only the length and both ends, so that a large item does not keep Redis busy.
-- `server/feed.py` computes the same digest.
local function digest(item)
  return string.sub(redis.sha1hex(string.sub(item, 1, 4096) .. string.sub(item, -4096) .. #item), 1, 16)
end

local function marks_of(first, count)
  local marks = {'last', string.format('%d %s', first + count - 1, digest(ARGV[6 + count]))}
  for number = math.ceil(first / 1000) * 1000, first + count - 1, 1000 do
    if number < 1000000 or number % 100000 == 0 then
      marks[#marks + 1], marks[#marks + 2] = string.format('%d', number), digest(ARGV[7 + number - first])
    end
  end
  return marks
end

local taken, why = 0, ''
if desired == 'paused' or desired == 'ended' then
  why = desired
elseif results >= tonumber(meta[2]) then
  why = 'results'
else
  local places = math.max(0, tonumber(counters[2]) - waiting)
  if ARGV[6] == '1' then
    local free = MAX_DELAYED - redis.call('ZCARD', KEYS[10])
    while taken < items do
      if option_of(ARGV[7 + taken], 'd') then free = free - 1 else places = places - 1 end
      if free < 0 or places < 0 then break end
      taken = taken + 1
    end
  else
    taken = math.min(items, places)
  end
  if taken < items then why = 'full' end
end
local pushed = taken
if ARGV[6] == '1' then
  local at_once, now = {}, now_ms()
  for i = 7, 6 + taken do
    local delay = option_of(ARGV[i], 'd')
    if delay then
      redis.call('ZADD', KEYS[10], string.format('%d', now + delay), ARGV[i])
    else
      at_once[#at_once + 1] = ARGV[i]
    end
  end
  call_in_pieces('RPUSH', KEYS[4], at_once)
  pushed = #at_once
else
  for first = 7, 6 + taken, 1000 do
    redis.call('RPUSH', KEYS[4], unpack(ARGV, first, math.min(first + 999, 6 + taken)))
  end
end
if taken > 0 then
  redis.call('HSET', KEYS[3], 'allotted', string.format('%d', allotted + taken),
    'cursor', string.format('%d', cursor + taken))
  if pushed > 0 and tokens == 0 then redis.call('LPUSH', KEYS[6], '1') end
  redis.call('HSET', KEYS[9], unpack(marks_of(cursor, taken)))
end
if taken == items then
  if ARGV[4] == '1' then redis.call('HSET', KEYS[3], 'exhausted', '1') end
  if ARGV[5] ~= (counters[3] or '') then redis.call('HSET', KEYS[3], 'halted', ARGV[5]) end
elseif why == 'full' or why == 'results' then
  redis.call('HSET', KEYS[8], 'starved', '1')
end
waiting = waiting + pushed
store_answer(KEYS[1], number, string.format('%d %d %s', taken, waiting, why))
return {'ok', taken, waiting, why}
