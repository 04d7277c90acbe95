-- Requeue failed tasks with fresh counters of attempts and crashes.
-- KEYS[1] actor's record  HASH
-- KEYS[2] failed     HASH id -> item
-- KEYS[3] failed_at  ZSET id -> ms
-- KEYS[4] reasons    HASH id -> msgpack
-- KEYS[5] waiting    LIST
-- KEYS[6] channel's token  LIST
-- KEYS[7] traces  HASH digest -> traceback  KEYS[8] trace_uses  HASH digest -> how many runs of failed tasks have it
-- ARGV[1] number  ARGV[2] only tasks that failed until this time, ms, or '' for now  ARGV[3] most tasks in this call
-- ARGV[4] how many of the oldest to skip (foreign items, which have no header and cannot be reloaded)
-- ARGV[5..] ids; without ids: all tasks until that time
-- Returns {'ok', reloaded, skipped, time in ms} | {'again', the same as text} | {'lost'} | {'stale'}
-- Laws: takes only tasks that are still there and had failed when the command was given (1); a reload clears all
-- counters (9).

local number = tonumber(ARGV[1])
local refused = check_number(KEYS[1], number)
if refused then return refused end
redis.call('HLEN', KEYS[4])
redis.call('LLEN', KEYS[5])
redis.call('LLEN', KEYS[6])
redis.call('HLEN', KEYS[2])
redis.call('HLEN', KEYS[7])
redis.call('HLEN', KEYS[8])
local until_ms = ARGV[2] ~= '' and ARGV[2] or string.format('%d', now_ms())
local ids
if #ARGV > 4 then
  redis.call('ZCARD', KEYS[3])
  ids = {unpack(ARGV, 5)}
else
  ids = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', until_ms, 'LIMIT', ARGV[4], ARGV[3])
end
local items, reloaded, skipped = {}, {}, 0
for _, id in ipairs(ids) do
  local item = redis.call('HGET', KEYS[2], id)
  if item and has_header(item) then
    items[#items + 1] = with_counts(item, 0, 0)
    reloaded[#reloaded + 1] = id
    redis.call('HDEL', KEYS[2], id)
    release_traces(redis.call('HGET', KEYS[4], id), KEYS[7], KEYS[8])
  else
    skipped = skipped + 1
  end
end
call_in_pieces('ZREM', KEYS[3], reloaded)
call_in_pieces('HDEL', KEYS[4], reloaded)
call_in_pieces('RPUSH', KEYS[5], items)
if #items > 0 then wake(KEYS[6]) end
store_answer(KEYS[1], number, string.format('%d %d %s', #items, skipped, until_ms))
return {'ok', #items, skipped, until_ms}
