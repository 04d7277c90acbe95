-- Writes a desired state, which agents and server then reconcile with, and wakes them (law 4).
-- KEYS[1] actor's record  HASH
-- KEYS[2] wish            HASH
-- KEYS[3..] tokens        LIST, of those that should look at once
-- ARGV[1] number  ARGV[2] '1' to drop all earlier fields  ARGV[3] the wish's time to live in ms, 0 for ever
-- ARGV[4..] field, value, ... ('' takes the field away)
-- Returns {'ok'} | {'again', ''} | {'lost'} | {'stale'}

local number = tonumber(ARGV[1])
local refused = refuse(KEYS[1], number)
if refused then return refused end
redis.call('HLEN', KEYS[2])
for i = 3, #KEYS do redis.call('LLEN', KEYS[i]) end
if ARGV[2] == '1' then redis.call('DEL', KEYS[2]) end
for i = 4, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', KEYS[2], ARGV[i])
  else
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  end
end
if ARGV[3] ~= '0' then redis.call('PEXPIRE', KEYS[2], ARGV[3]) end
for i = 3, #KEYS do
  wake(KEYS[i])
  redis.call('PEXPIRE', KEYS[i], 60000)
end
remember(KEYS[1], number, '')
return {'ok'}
