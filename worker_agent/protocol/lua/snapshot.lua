-- Read a whole namespace at one instant, for dashboards. Changes nothing.
-- KEYS[1] meta HASH  KEYS[2] leases ZSET  KEYS[3] agents HASH  KEYS[4] devices HASH  KEYS[5] events LIST
-- KEYS[6] desired_devices (`wish:devices`) HASH  KEYS[7] desired_channels (`wish:channels`) HASH
-- KEYS[8] desired_server (`wish:server`) HASH  KEYS[9] fleet HASH  KEYS[10] server_lease (`lease:server`) ZSET
-- KEYS[11] heard ZSET device -> when its last heartbeat came, ms
-- then for each channel: books HASH, waiting LIST, delayed ZSET, failed HASH, results LIST, holders HASH, tally HASH
-- ARGV[1] most events  ARGV[2] ms of the reader's last snapshot, 0 for a whole one  ARGV[3..5] its `sizes`
-- Returns {ms, meta, leases, agents, devices, desired_devices, desired_channels, desired_server, fleet,
--          events newest last, {for each channel: {books, waiting, delayed, failed, results, claimed,
--          header of the first waiting item, tally}}, the server's lease, sizes {live leases, agents, devices},
--          '1' if agents and devices hold only those with a heartbeat since the last snapshot, and leases nothing}
-- Law: all numbers are from the same instant, so they are balanced (1).
-- The sizes differ if a lease ended or an agent joined or left since the last snapshot. Then the reply is whole.

local channels = {}
for i = 12, #KEYS, 7 do
  local claimed = 0
  for _, count in ipairs(redis.call('HVALS', KEYS[i + 5])) do claimed = claimed + (tonumber(count) or 0) end
  channels[#channels + 1] = {
    redis.call('HGETALL', KEYS[i]), redis.call('LLEN', KEYS[i + 1]), redis.call('ZCARD', KEYS[i + 2]),
    redis.call('HLEN', KEYS[i + 3]), redis.call('LLEN', KEYS[i + 4]), claimed,
    string.sub(redis.call('LINDEX', KEYS[i + 1], 0) or '', 1, 26), redis.call('HGETALL', KEYS[i + 6]),
  }
end

-- Return fields and values in turn, of the fields that the hash has.
local function some(key, fields)
  local found = {}
  for first = 1, #fields, 1000 do -- In pieces: `unpack` has a limit.
    local last = math.min(first + 999, #fields)
    for i, value in ipairs(redis.call('HMGET', key, unpack(fields, first, last))) do
      if value then found[#found + 1], found[#found + 2] = fields[first + i - 1], value end
    end
  end
  return found
end

local now, since = now_ms(), tonumber(ARGV[2])
local sizes = {
  redis.call('ZCOUNT', KEYS[2], string.format('(%d', now), '+inf'), redis.call('HLEN', KEYS[3]),
  redis.call('HLEN', KEYS[4]),
}
local changes = since > 0 and since <= now
for i, size in ipairs(sizes) do changes = changes and size == tonumber(ARGV[2 + i]) end
local leases, agents, devices = {}, {}, {}
if changes then
  local numbers = redis.call('ZRANGEBYSCORE', KEYS[11], since, '+inf')
  agents, devices = some(KEYS[3], numbers), some(KEYS[4], numbers)
else
  leases = redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')
  agents, devices = redis.call('HGETALL', KEYS[3]), redis.call('HGETALL', KEYS[4])
end
return {
  string.format('%d', now), redis.call('HGETALL', KEYS[1]), leases, agents, devices,
  redis.call('HGETALL', KEYS[6]), redis.call('HGETALL', KEYS[7]),
  redis.call('HGETALL', KEYS[8]), redis.call('HGETALL', KEYS[9]),
  redis.call('LRANGE', KEYS[5], -tonumber(ARGV[1]), -1), channels, redis.call('ZRANGE', KEYS[10], 0, -1, 'WITHSCORES'),
  sizes, changes and '1' or '0',
}
