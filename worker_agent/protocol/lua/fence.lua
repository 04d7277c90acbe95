-- Fence an actor whose process has certainly ended, without waiting for the end of its lease.
-- KEYS[1] actor's record  HASH
-- KEYS[2] leases          ZSET actor -> expiry, ms
-- ARGV[1] actor
-- Returns {'ok'}
-- Law: an actor of the same boot whose process is gone is replaced at once (7).

local record = redis.call('HLEN', KEYS[1])
local lease = redis.call('ZSCORE', KEYS[2], ARGV[1])
if lease then redis.call('ZADD', KEYS[2], 0, ARGV[1]) end
if record > 0 then
  redis.call('HSET', KEYS[1], 'dead', '1')
  redis.call('PEXPIRE', KEYS[1], DEAD_TTL)
end
return {'ok'}
