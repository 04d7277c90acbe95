-- A dead actor's claims come back (law 2), each with one crash more; the third crash fails the task (law 9).
-- The actor is marked dead in the same step. An actor whose lease still runs is left alone, so a late copy is harmless.
-- KEYS[1] dead actor's record  HASH
-- KEYS[2] leases     ZSET
-- KEYS[3] agents     HASH device -> actor
-- KEYS[4] channel's running agents   ZSET
-- KEYS[5] waiting    LIST
-- KEYS[6] failed     HASH id -> item
-- KEYS[7] failed_at  ZSET id -> ms
-- KEYS[8] reasons    HASH id -> msgpack, one map a failed run, of what has failed
-- KEYS[9] holders    HASH actor -> number of its claimed tasks
-- KEYS[10] claims    HASH, of the dead actor: a claim's number -> its items, `NUMBER:open` -> their states
-- KEYS[11] channel's token   LIST
-- KEYS[12] tries     HASH id -> msgpack, one map a failed run, of what is still to be run
-- ARGV[1] dead actor  ARGV[2] most tasks in this call, which one claim alone may pass  ARGV[3] reason of a third crash, msgpack
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
redis.call('HLEN', KEYS[12])
local held, gone, left = {}, {}, 0
for _, field in ipairs(redis.call('HKEYS', KEYS[10])) do
  local claim = string.match(field, '^(.+):open$')
  if claim then
    local open = redis.call('HGET', KEYS[10], field)
    local _, settled = string.gsub(open, '%' .. SETTLED, '')
    local tasks = #open - settled
    if #held > 0 and #held + tasks > tonumber(ARGV[2]) then
      left = left + tasks
    else
      local ours, items = pcall(cmsgpack.unpack, redis.call('HGET', KEYS[10], claim))
      for place = 1, #open do
        local item = ours and type(items) == 'table' and items[place]
        -- Every agent may write claims: what is no item holds no task, and what has no header counts when it is claimed.
        if type(item) == 'string' and string.sub(open, place, place) ~= SETTLED then
          held[#held + 1] = has_header(item) and with_counts(item, attempt_of(item), crashes_of(item) + 1) or item
        end
      end
      gone[#gone + 1], gone[#gone + 2] = claim, field
    end
  end
end

spread('HDEL', KEYS[10], gone)
local back, failed = {}, 0
for _, item in ipairs(held) do
  if has_header(item) and crashes_of(item) >= MAX_CRASHES then
    local id = id_of(item)
    redis.call('HSETNX', KEYS[6], id, item)
    redis.call('ZADD', KEYS[7], now, id)
    redis.call('HSETNX', KEYS[8], id, (redis.call('HGET', KEYS[12], id) or '') .. ARGV[3])
    redis.call('HDEL', KEYS[12], id)
    failed = failed + 1
  else
    back[#back + 1] = item
  end
end
spread('RPUSH', KEYS[5], back)
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
