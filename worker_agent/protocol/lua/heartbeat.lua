-- Renew an agent's lease and store its report. Each agent calls it once a second.
-- KEYS[1] actor's record  HASH
-- KEYS[2] leases          ZSET actor -> expiry, ms
-- KEYS[3] devices         HASH device -> 13 digits of ms and the report
-- KEYS[4] meta            HASH
-- KEYS[5] agents          HASH device -> actor
-- KEYS[6] fleet           HASH
-- KEYS[7..] channels' agents  ZSETs of the agents that run tasks
-- ARGV[1] actor  ARGV[2] device  ARGV[3] report, msgpack
-- ARGV[4] how many of KEYS[7..] get the actor; it is removed from the others
-- Returns {'ok', '1' if a sweep is due, lease ms, number of channels} | {'lost'}
-- Laws: a fenced actor gets `lost` and changes nothing (2); heartbeats have no number (3).

local record = redis.call('HMGET', KEYS[1], 'number', 'dead')
if not record[1] or record[2] then return {'lost'} end
if redis.call('HGET', KEYS[5], ARGV[2]) ~= ARGV[1] then return {'lost'} end
local meta = redis.call('HMGET', KEYS[4], 'lease_ms', 'channels')
local now, swept = now_ms(), swept_ms(KEYS[6])
redis.call('HLEN', KEYS[3])
for i = 7, #KEYS do redis.call('ZCARD', KEYS[i]) end
redis.call('ZADD', KEYS[2], now + tonumber(meta[1]), ARGV[1])
redis.call('HSET', KEYS[3], ARGV[2], string.format('%013d', now) .. ARGV[3])
for i = 7, #KEYS do
  if i < 7 + tonumber(ARGV[4]) then
    redis.call('ZADD', KEYS[i], now, ARGV[1])
  else
    redis.call('ZREM', KEYS[i], ARGV[1])
  end
end
redis.call('PEXPIRE', KEYS[1], DEAD_TTL)
return {'ok', is_sweep_due(swept, now) and '1' or '0', meta[1], meta[2]}
