-- Skip the item at which a channel's feed stopped.
-- KEYS[1] actor's record  HASH
-- KEYS[2] meta   HASH
-- KEYS[3] counters (`books`)  HASH
-- ARGV[1] actor  ARGV[2] number  ARGV[3] number of the item
-- Returns {'ok'} | {'again', ''} | {'superseded', record of the successor} | {'moved', count} | {'lost'} | {'stale'}
--         | {'gone'} if another program deleted the keys of the namespace
-- Law: the generator's place moves past the item in the same step (5).

local number = tonumber(ARGV[2])
local meta = redis.call('HMGET', KEYS[2], 'server', 'server_record', 'protocol')
if not meta[3] then return {'gone'} end
if (meta[1] or '') ~= ARGV[1] then return {'superseded', meta[1] and meta[2] or ''} end
local refused = check_number(KEYS[1], number)
if refused then return refused end
local cursor = redis.call('HGET', KEYS[3], 'cursor') or '0'
if tonumber(cursor) ~= tonumber(ARGV[3]) then return {'moved', cursor} end
redis.call('HDEL', KEYS[3], 'halted')
redis.call('HINCRBY', KEYS[3], 'cursor', 1)
store_answer(KEYS[1], number, '')
return {'ok'}
