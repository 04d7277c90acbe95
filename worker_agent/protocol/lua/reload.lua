-- Failed tasks go back to waiting with fresh counters; only what is still there, and had failed when it was asked.
-- KEYS[1] actor's record  HASH
-- KEYS[2] failed     HASH id -> item
-- KEYS[3] failed_at  ZSET id -> ms
-- KEYS[4] reasons    HASH id -> msgpack
-- KEYS[5] waiting    LIST
-- KEYS[6] channel's token  LIST
-- ARGV[1] number  ARGV[2] failed no later than, ms, or '' for now  ARGV[3] most tasks in this call
-- ARGV[4] how many of the oldest to pass over (foreign items, which have no header to reload)
-- ARGV[5..] ids; none: all up to that time
-- Returns {'ok', reloaded, passed over, time in ms} | {'again', the same as text} | {'lost'} | {'stale'}

local number = tonumber(ARGV[1])
local refused = refuse(KEYS[1], number)
if refused then return refused end
redis.call('HLEN', KEYS[4])
redis.call('LLEN', KEYS[5])
redis.call('LLEN', KEYS[6])
redis.call('HLEN', KEYS[2])
local until_ms = ARGV[2] ~= '' and ARGV[2] or string.format('%d', now_ms())
local ids
if #ARGV > 4 then
  redis.call('ZCARD', KEYS[3])
  ids = {unpack(ARGV, 5)}
else
  ids = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', until_ms, 'LIMIT', ARGV[4], ARGV[3])
end
local items, gone, passed = {}, {}, 0
for _, id in ipairs(ids) do
  local item = redis.call('HGET', KEYS[2], id)
  if item and has_header(item) then
    items[#items + 1] = with_counts(item, 0, 0)
    gone[#gone + 1] = id
    redis.call('HDEL', KEYS[2], id)
  else
    passed = passed + 1
  end
end
spread('ZREM', KEYS[3], gone)
spread('HDEL', KEYS[4], gone)
spread('RPUSH', KEYS[5], items)
if #items > 0 then wake(KEYS[6]) end
remember(KEYS[1], number, string.format('%d %d %s', #items, passed, until_ms))
return {'ok', #items, passed, until_ms}
