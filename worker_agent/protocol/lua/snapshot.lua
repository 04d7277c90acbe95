-- Read a whole namespace at one instant, for dashboards. Changes nothing.
-- KEYS[1] meta HASH  KEYS[2] leases ZSET  KEYS[3] agents HASH  KEYS[4] devices HASH  KEYS[5] events LIST
-- KEYS[6] desired_devices (`wish:devices`) HASH  KEYS[7] desired_channels (`wish:channels`) HASH
-- KEYS[8] desired_server (`wish:server`) HASH  KEYS[9] fleet HASH  KEYS[10] server_lease (`lease:server`) ZSET
-- then for each channel: books HASH, waiting LIST, delayed ZSET, failed HASH, results LIST, holders HASH, tally HASH
-- ARGV[1] most events
-- Returns {ms, meta, leases, agents, devices, desired_devices, desired_channels, desired_server, fleet,
--          events newest last, {for each channel: {books, waiting, delayed, failed, results, claimed,
--          header of the first waiting item, tally}}, the server's lease}
-- Law: all numbers are from the same instant, so they are balanced (1).

local channels = {}
for i = 11, #KEYS, 7 do
  local claimed = 0
  for _, count in ipairs(redis.call('HVALS', KEYS[i + 5])) do claimed = claimed + (tonumber(count) or 0) end
  channels[#channels + 1] = {
    redis.call('HGETALL', KEYS[i]), redis.call('LLEN', KEYS[i + 1]), redis.call('ZCARD', KEYS[i + 2]),
    redis.call('HLEN', KEYS[i + 3]), redis.call('LLEN', KEYS[i + 4]), claimed,
    string.sub(redis.call('LINDEX', KEYS[i + 1], 0) or '', 1, 26), redis.call('HGETALL', KEYS[i + 6]),
  }
end
return {
  string.format('%d', now_ms()), redis.call('HGETALL', KEYS[1]),
  redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES'), redis.call('HGETALL', KEYS[3]),
  redis.call('HGETALL', KEYS[4]), redis.call('HGETALL', KEYS[6]), redis.call('HGETALL', KEYS[7]),
  redis.call('HGETALL', KEYS[8]), redis.call('HGETALL', KEYS[9]),
  redis.call('LRANGE', KEYS[5], -tonumber(ARGV[1]), -1), channels, redis.call('ZRANGE', KEYS[10], 0, -1, 'WITHSCORES'),
}
