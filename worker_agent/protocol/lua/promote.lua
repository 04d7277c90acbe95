-- Delayed tasks whose time has come go back to waiting; Redis's clock alone decides, so a copy is harmless.
-- KEYS[1] delayed  ZSET item -> due, ms
-- KEYS[2] waiting  LIST
-- KEYS[3] channel's token  LIST
-- ARGV[1] most tasks in this call
-- Returns {'ok', promoted}

redis.call('LLEN', KEYS[2])
redis.call('LLEN', KEYS[3])
local items = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms(), 'LIMIT', 0, ARGV[1])
if #items == 0 then return {'ok', 0} end
spread('ZREM', KEYS[1], items)
spread('RPUSH', KEYS[2], items)
wake(KEYS[3])
return {'ok', #items}
