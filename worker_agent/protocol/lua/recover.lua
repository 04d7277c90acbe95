-- A dead actor's claims come back (law 2), each with one crash more; the third crash fails the task (law 9).
-- The actor is marked dead in the same step. An actor whose lease still runs is left alone, so a late copy is harmless.
-- KEYS[1] dead actor's record  HASH
-- KEYS[2] leases     ZSET
-- KEYS[3] agents     HASH device -> actor
-- KEYS[4] channel's running agents   ZSET
-- KEYS[5] waiting    LIST
-- KEYS[6] failed     HASH id -> item
-- KEYS[7] failed_at  ZSET id -> ms
-- KEYS[8] reasons    HASH id -> msgpack, one map a failed run
-- KEYS[9] holders    HASH actor -> number of its claims
-- KEYS[10] claims    HASH id -> item, of the dead actor
-- KEYS[11] channel's token   LIST
-- ARGV[1] dead actor  ARGV[2] most tasks in this call  ARGV[3] reason of a third crash, msgpack
-- Returns {'ok', recovered, failed, left} | {'alive'}

local record = redis.call('HMGET', KEYS[1], 'dead', 'device', 'number')
local lease = redis.call('ZSCORE', KEYS[2], ARGV[1])
local now = now_ms()
if not record[1] and lease and tonumber(lease) > now then return {'alive'} end
local on_device = record[2] and redis.call('HGET', KEYS[3], record[2])
redis.call('ZCARD', KEYS[4])
redis.call('LLEN', KEYS[5])
redis.call('HLEN', KEYS[6])
redis.call('ZCARD', KEYS[7])
redis.call('HLEN', KEYS[8])
redis.call('HLEN', KEYS[9])
redis.call('LLEN', KEYS[11])
local ids = redis.call('HKEYS', KEYS[10])
local most = math.min(#ids, tonumber(ARGV[2]))
local back, failed = {}, 0
for i = 1, most do
  local id = ids[i]
  local item = redis.call('HGET', KEYS[10], id)
  redis.call('HDEL', KEYS[10], id)
  local crashes = crashes_of(item) + 1
  item = with_counts(item, attempt_of(item), crashes)
  if crashes >= MAX_CRASHES then
    redis.call('HSET', KEYS[6], id, item)
    redis.call('ZADD', KEYS[7], now, id)
    redis.call('HSET', KEYS[8], id, (redis.call('HGET', KEYS[8], id) or '') .. ARGV[3])
    failed = failed + 1
  else
    back[#back + 1] = item
  end
end
spread('RPUSH', KEYS[5], back)
local left = #ids - most
if left == 0 then
  redis.call('HDEL', KEYS[9], ARGV[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
else
  redis.call('HSET', KEYS[9], ARGV[1], left)
  redis.call('ZADD', KEYS[2], 0, ARGV[1])
end
redis.call('ZREM', KEYS[4], ARGV[1])
if on_device == ARGV[1] then redis.call('HDEL', KEYS[3], record[2]) end
if record[3] then
  redis.call('HSET', KEYS[1], 'dead', '1')
  redis.call('PEXPIRE', KEYS[1], DEAD_TTL)
end
if #back > 0 then wake(KEYS[11]) end
return {'ok', #back, failed, left}
