-- Append a sample of its counters to each channel's history, and remove the oldest samples and events.
-- KEYS[1] events LIST
-- then for each channel: books HASH, waiting LIST, holders HASH, failed HASH, history LIST, tally HASH
-- ARGV[1] ms between samples  ARGV[2] how many samples to keep  ARGV[3] how many events to keep
-- Returns {'ok', channels sampled}
-- The server calls it once a second. Redis's clock decides whether a sample is due, so a second copy of the call does
-- no harm (law 3).

-- A count that agents write; 0 if the value is not a number.
local function agent_count(key, field) return tonumber(redis.call('HGET', key, field) or '') or 0 end

local now, sampled = now_ms(), 0
local period, keep = tonumber(ARGV[1]), tonumber(ARGV[2])
local lines = {}
local events = redis.call('LLEN', KEYS[1])
for i = 2, #KEYS, 6 do
  local last = redis.call('LINDEX', KEYS[i + 4], -1)
  local since = last and now - tonumber(string.match(last, '^%d+') or '0')
  if not since or since >= period or since < 0 then
    local counters = redis.call('HMGET', KEYS[i], 'capacity', 'allotted', 'cursor')
    local done, foreign = agent_count(KEYS[i + 5], 'done'), agent_count(KEYS[i + 5], 'foreign')
    local claimed = 0
    for _, count in ipairs(redis.call('HVALS', KEYS[i + 2])) do claimed = claimed + (tonumber(count) or 0) end
    lines[i + 4] = string.format('%d %d %s %d %d %d %d %s', now, redis.call('LLEN', KEYS[i + 1]), counters[1] or '0',
      claimed, done, redis.call('HLEN', KEYS[i + 3]), (tonumber(counters[2] or '') or 0) + foreign, counters[3] or '0')
  end
end
if events > tonumber(ARGV[3]) then redis.call('LTRIM', KEYS[1], -tonumber(ARGV[3]), -1) end
for place, line in pairs(lines) do
  redis.call('RPUSH', KEYS[place], line)
  redis.call('LTRIM', KEYS[place], -keep, -1)
  sampled = sampled + 1
end
return {'ok', sampled}
