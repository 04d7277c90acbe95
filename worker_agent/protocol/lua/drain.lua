-- Remove results that the caller has read, unless another process drained results since then.
-- KEYS[1] actor's record  HASH
-- KEYS[2] counters (`books`)  HASH: drained
-- KEYS[3] results  LIST
-- KEYS[4] server's token  LIST
-- KEYS[5] agent_counters (`tally`)  HASH: starved
-- ARGV[1] number  ARGV[2] how many results had been drained when the caller read  ARGV[3] how many to remove
-- Returns {'ok', removed} | {'moved', drained by now} | {'again', the same as text} | {'lost'} | {'stale'}
-- Laws: two copies of a call drain once (3); a feed that the cap on results stopped continues (6).

local number = tonumber(ARGV[1])
local refused = check_number(KEYS[1], number)
if refused then return refused end
local drained, starved = redis.call('HGET', KEYS[2], 'drained') or '0', redis.call('HGET', KEYS[5], 'starved')
if tonumber(drained) ~= tonumber(ARGV[2]) then return {'moved', drained} end
redis.call('LLEN', KEYS[4])
local count = math.min(redis.call('LLEN', KEYS[3]), tonumber(ARGV[3]))
if count > 0 then
  redis.call('LTRIM', KEYS[3], count, -1)
  redis.call('HINCRBY', KEYS[2], 'drained', count)
  if starved == '1' then
    redis.call('HDEL', KEYS[5], 'starved')
    wake(KEYS[4])
  end
end
store_answer(KEYS[1], number, string.format('%d', count))
return {'ok', count}
