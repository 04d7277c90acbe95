-- Delete failed tasks.
-- KEYS[1] actor's record  HASH
-- KEYS[2] counters (`books`)  HASH: deleted
-- KEYS[3] failed     HASH id -> item
-- KEYS[4] failed_at  ZSET id -> ms
-- KEYS[5] reasons    HASH id -> msgpack
-- KEYS[6] traces  HASH digest -> traceback  KEYS[7] trace_uses  HASH digest -> how many runs of failed tasks have it
-- ARGV[1] number  ARGV[2..] ids, at most 1,000
-- Returns {'ok', deleted, {the deleted items whose bodies are stored apart}} | {'again', deleted as text} | {'lost'}
--         | {'stale'}
-- Law: only a task that is still there is counted as deleted, so the counters stay balanced (1).

local number = tonumber(ARGV[1])
local refused = check_number(KEYS[1], number)
if refused then return refused end
redis.call('HLEN', KEYS[2])
redis.call('HLEN', KEYS[3])
redis.call('ZCARD', KEYS[4])
for i = 5, 7 do redis.call('HLEN', KEYS[i]) end
local deleted, apart = 0, {}
for i = 2, #ARGV do
  local item = redis.call('HGET', KEYS[3], ARGV[i])
  if item then
    if has_header(item) and is_apart(item) then apart[#apart + 1] = item end
    redis.call('HDEL', KEYS[3], ARGV[i])
    release_traces(redis.call('HGET', KEYS[5], ARGV[i]), KEYS[6], KEYS[7])
    redis.call('ZREM', KEYS[4], ARGV[i])
    redis.call('HDEL', KEYS[5], ARGV[i])
    deleted = deleted + 1
  end
end
if deleted > 0 then redis.call('HINCRBY', KEYS[2], 'deleted', deleted) end
store_answer(KEYS[1], number, string.format('%d', deleted))
return {'ok', deleted, apart}
