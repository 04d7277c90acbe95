-- Give a failed task a new body and requeue it in the same step. Its id and its own options stay.
-- KEYS[1] actor's record  HASH
-- KEYS[2] failed     HASH id -> item
-- KEYS[3] failed_at  ZSET id -> ms
-- KEYS[4] reasons    HASH id -> msgpack
-- KEYS[5] waiting    LIST
-- KEYS[6] channel's token  LIST
-- KEYS[7] traces  HASH digest -> traceback  KEYS[8] trace_uses  HASH digest -> how many runs of failed tasks have it
-- ARGV[1] number  ARGV[2] id  ARGV[3] form and body
-- Returns {'ok', 1, or 0 if the task is no longer there, the old item if its body is stored apart, else ''}
--         | {'again', the first of these as text} | {'lost'} | {'stale'}
-- Law: the task is failed or waiting at every moment, so the counters stay balanced (1).

local number = tonumber(ARGV[1])
local refused = check_number(KEYS[1], number)
if refused then return refused end
local item = redis.call('HGET', KEYS[2], ARGV[2])
redis.call('ZCARD', KEYS[3])
redis.call('HLEN', KEYS[4])
redis.call('LLEN', KEYS[5])
redis.call('LLEN', KEYS[6])
redis.call('HLEN', KEYS[7])
redis.call('HLEN', KEYS[8])
local edited, old = 0, ''
if item then
  redis.call('HDEL', KEYS[2], ARGV[2])
  redis.call('ZREM', KEYS[3], ARGV[2])
  release_traces(redis.call('HGET', KEYS[4], ARGV[2]), KEYS[7], KEYS[8])
  redis.call('HDEL', KEYS[4], ARGV[2])
  local options = ''
  if has_header(item) then
    options = string.sub(item, 26, form_at(item) - 1)
    if is_apart(item) then old = item end
  end
  redis.call('RPUSH', KEYS[5], 'M1' .. ARGV[2] .. '000' .. options .. ARGV[3])
  wake(KEYS[6])
  edited = 1
end
store_answer(KEYS[1], number, string.format('%d', edited))
return {'ok', edited, old}
