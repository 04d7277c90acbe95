-- The server's one-second sign of life (law 7). Not numbered.
-- KEYS[1] actor's record  HASH
-- KEYS[2] leases          ZSET
-- KEYS[3] meta            HASH
-- ARGV[1] actor
-- Returns {'ok', '1' if a sweep is due} | {'lost'} | {'superseded', successor's record}

local record = redis.call('HMGET', KEYS[1], 'number', 'dead')
local meta = redis.call('HMGET', KEYS[3], 'lease_ms', 'swept_ms', 'server', 'server_record')
if (meta[3] or '') ~= ARGV[1] then return {'superseded', meta[3] and meta[4] or ''} end
if not record[1] or record[2] then return {'lost'} end
local now = now_ms()
redis.call('ZADD', KEYS[2], now + tonumber(meta[1]), ARGV[1])
redis.call('PEXPIRE', KEYS[1], DEAD_TTL)
local swept = tonumber(meta[2] or '0')
return {'ok', (now - swept >= 1000 or now < swept) and '1' or '0'}
