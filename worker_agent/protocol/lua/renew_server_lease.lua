-- Renew the server's lease. The server calls it once a second, without a number.
-- KEYS[1] actor's record  HASH
-- KEYS[2] server_lease (`lease:server`)  ZSET
-- KEYS[3] meta            HASH
-- KEYS[4] fleet           HASH
-- ARGV[1] actor
-- Returns {'ok', '1' if a sweep is due} | {'lost'} | {'superseded', record of the successor}
--         | {'gone'} if another program deleted the keys of the namespace
-- Law: only the server that holds the namespace renews its lease (7).

local record = redis.call('HMGET', KEYS[1], 'number', 'dead')
local meta = redis.call('HMGET', KEYS[3], 'lease_ms', 'server', 'server_record', 'protocol')
if not meta[4] then return {'gone'} end
if (meta[2] or '') ~= ARGV[1] then return {'superseded', meta[2] and meta[3] or ''} end
if not record[1] or record[2] then return {'lost'} end
local now, swept = now_ms(), swept_ms(KEYS[4])
redis.call('ZADD', KEYS[2], now + tonumber(meta[1]), ARGV[1])
redis.call('PEXPIRE', KEYS[1], DEAD_TTL)
return {'ok', is_sweep_due(swept, now) and '1' or '0'}
