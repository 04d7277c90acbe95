-- Renew an agent's lease, store its report, and return its desired state. Each agent calls it every second or two.
-- KEYS[1] actor's record  HASH
-- KEYS[2] leases          ZSET actor -> expiry, ms
-- KEYS[3] devices         HASH device -> 13 digits of ms and the report
-- KEYS[4] meta            HASH
-- KEYS[5] agents          HASH device -> actor
-- KEYS[6] fleet           HASH
-- KEYS[7] heard           ZSET device -> when its last heartbeat came, ms
-- KEYS[8..12] as KEYS[1..5] of read_desired.lua
-- KEYS[13..] channels' agents  ZSETs of the agents that run tasks
-- ARGV[1] actor  ARGV[2] device  ARGV[3] report, msgpack
-- ARGV[4] how many of KEYS[13..] get the actor; it is removed from the others
-- ARGV[5] '1' to renew the time to live of the actor's record too
-- Returns {'ok', '1' if a sweep is due, lease ms, number of channels, and what read_desired.lua returns} | {'lost'}
-- Laws: a fenced actor gets `lost` and changes nothing (2); heartbeats have no number (3); commands write state, and
-- agents follow it (4).

local record = redis.call('HMGET', KEYS[1], 'number', 'dead')
if not record[1] or record[2] then return {'lost'} end
if redis.call('HGET', KEYS[5], ARGV[2]) ~= ARGV[1] then return {'lost'} end
local meta = redis.call('HMGET', KEYS[4], 'lease_ms', 'channels')
local now, swept = now_ms(), swept_ms(KEYS[6])
local desired = redis.call('HMGET', KEYS[8], ARGV[2], 'default')
local stop = redis.call('HGET', KEYS[9], ARGV[1])
local detect, channels = redis.call('HGET', KEYS[10], ARGV[2]), redis.call('HGET', KEYS[11], ARGV[2])
local cancels = redis.call('HGET', KEYS[12], ARGV[1])
redis.call('HLEN', KEYS[3])
redis.call('ZCARD', KEYS[7])
for i = 13, #KEYS do redis.call('ZCARD', KEYS[i]) end
redis.call('ZADD', KEYS[2], now + tonumber(meta[1]), ARGV[1])
redis.call('HSET', KEYS[3], ARGV[2], string.format('%013d', now) .. ARGV[3])
redis.call('ZADD', KEYS[7], now, ARGV[2])
for i = 13, #KEYS do
  if i < 13 + tonumber(ARGV[4]) then
    redis.call('ZADD', KEYS[i], now, ARGV[1])
  else
    redis.call('ZREM', KEYS[i], ARGV[1])
  end
end
if ARGV[5] == '1' then redis.call('PEXPIRE', KEYS[1], DEAD_TTL) end
return {
  'ok', is_sweep_due(swept, now) and '1' or '0', meta[1], meta[2],
  desired[1] or desired[2] or 'paused', stop or '', detect or '', channels or '',
  cancels or '',
}
