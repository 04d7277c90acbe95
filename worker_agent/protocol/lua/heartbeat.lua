-- Renew an agent's lease and store its report. Each agent calls it once a second.
-- KEYS[1] actor's record  HASH
-- KEYS[2] leases          ZSET actor -> expiry, ms
-- KEYS[3] devices         HASH device -> 13 digits of ms and the report
-- KEYS[4] the channel's agents  ZSET of the agents that run tasks
-- KEYS[5] meta            HASH
-- KEYS[6] agents          HASH device -> actor
-- KEYS[7] fleet           HASH
-- ARGV[1] actor  ARGV[2] device  ARGV[3] `running` or `paused`  ARGV[4] report, msgpack
-- Returns {'ok', '1' if a sweep is due, lease ms, retries, retry delay ms} | {'lost'}
-- Laws: a fenced actor gets `lost` and changes nothing (2); heartbeats have no number (3).

local record = redis.call('HMGET', KEYS[1], 'number', 'dead')
if not record[1] or record[2] then return {'lost'} end
if redis.call('HGET', KEYS[6], ARGV[2]) ~= ARGV[1] then return {'lost'} end
local meta = redis.call('HMGET', KEYS[5], 'lease_ms', 'retries', 'retry_delay_ms')
local now, swept = now_ms(), swept_ms(KEYS[7])
redis.call('HLEN', KEYS[3])
redis.call('ZCARD', KEYS[4])
redis.call('ZADD', KEYS[2], now + tonumber(meta[1]), ARGV[1])
redis.call('HSET', KEYS[3], ARGV[2], string.format('%013d', now) .. ARGV[4])
if ARGV[3] == 'running' then
  redis.call('ZADD', KEYS[4], now, ARGV[1])
else
  redis.call('ZREM', KEYS[4], ARGV[1])
end
redis.call('PEXPIRE', KEYS[1], DEAD_TTL)
return {'ok', is_sweep_due(swept, now) and '1' or '0', meta[1], meta[2], meta[3]}
