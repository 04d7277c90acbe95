-- Keeps the last hour of each channel's books, a line every few seconds, for dashboards that come later.
-- Whoever sweeps calls it; Redis's clock decides whether a sample is due, so a copy is harmless.
-- KEYS[1..] for each channel: books HASH, waiting LIST, holders HASH, failed HASH, history LIST
-- ARGV[1] ms between samples  ARGV[2] how many to keep
-- Returns {'ok', channels sampled}

local now, sampled = now_ms(), 0
local period, keep = tonumber(ARGV[1]), tonumber(ARGV[2])
local lines = {}
for i = 1, #KEYS, 5 do
  local last = redis.call('LINDEX', KEYS[i + 4], -1)
  local since = last and now - tonumber(string.match(last, '^%d+') or '0')
  if not since or since >= period or since < 0 then
    local books = redis.call('HMGET', KEYS[i], 'capacity', 'done', 'allotted', 'cursor')
    local claimed = 0
    for _, count in ipairs(redis.call('HVALS', KEYS[i + 2])) do claimed = claimed + tonumber(count) end
    lines[i + 4] = string.format('%d %d %s %d %s %d %s %s', now, redis.call('LLEN', KEYS[i + 1]), books[1] or '0',
      claimed, books[2] or '0', redis.call('HLEN', KEYS[i + 3]), books[3] or '0', books[4] or '0')
  end
end
for place, line in pairs(lines) do
  redis.call('RPUSH', KEYS[place], line)
  redis.call('LTRIM', KEYS[place], -keep, -1)
  sampled = sampled + 1
end
return {'ok', sampled}
