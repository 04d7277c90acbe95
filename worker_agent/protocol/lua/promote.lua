-- Requeue delayed tasks that are due, before all waiting tasks: the one that was due first is claimed first.
-- KEYS[1] delayed  ZSET item -> due, ms
-- KEYS[2] waiting  LIST
-- KEYS[3] channel's token  LIST
-- ARGV[1] most tasks in this call
-- Returns {'ok', promoted}
-- Laws: needs no server (8); only Redis's clock decides, so a second copy of the call does no harm (3).

redis.call('LLEN', KEYS[2])
redis.call('LLEN', KEYS[3])
local items = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms(), 'LIMIT', 0, ARGV[1])
if #items == 0 then return {'ok', 0} end
call_in_pieces('ZREM', KEYS[1], items)
local last_first = {}
for i = #items, 1, -1 do last_first[#last_first + 1] = items[i] end
call_in_pieces('LPUSH', KEYS[2], last_first)
wake(KEYS[3])
return {'ok', #items}
