-- The server passes over the item at which a channel's feed stopped (law 5).
-- KEYS[1] actor's record  HASH
-- KEYS[2] meta   HASH
-- KEYS[3] books  HASH
-- ARGV[1] actor  ARGV[2] number  ARGV[3] the item's number
-- Returns {'ok'} | {'again', ''} | {'superseded', successor's record} | {'moved', count} | {'lost'} | {'stale'}
--         | {'gone'} where somebody deleted the namespace's keys

local number = tonumber(ARGV[2])
local meta = redis.call('HMGET', KEYS[2], 'server', 'server_record', 'protocol')
if not meta[3] then return {'gone'} end
if (meta[1] or '') ~= ARGV[1] then return {'superseded', meta[1] and meta[2] or ''} end
local refused = refuse(KEYS[1], number)
if refused then return refused end
local cursor = redis.call('HGET', KEYS[3], 'cursor') or '0'
if tonumber(cursor) ~= tonumber(ARGV[3]) then return {'moved', cursor} end
redis.call('HDEL', KEYS[3], 'halted')
redis.call('HINCRBY', KEYS[3], 'cursor', 1)
remember(KEYS[1], number, '')
return {'ok'}
