-- Write desired state and wake the processes that follow it.
-- KEYS[1] actor's record  HASH
-- KEYS[2] a key of desired state (`wish:...`)  HASH
-- KEYS[3..] tokens        LIST of each process to wake
-- ARGV[1] number  ARGV[2] '1' to remove all earlier fields  ARGV[3] time to live of the key in ms, 0 for no limit
-- ARGV[4..] field, value, ... ('' removes the field)
-- Returns {'ok'} | {'again', ''} | {'lost'} | {'stale'}
-- Law: a command writes state, and a lost token only delays it (4).

local number = tonumber(ARGV[1])
local refused = check_number(KEYS[1], number)
if refused then return refused end
redis.call('HLEN', KEYS[2])
local without_token = {}
for i = 3, #KEYS do
  if redis.call('LLEN', KEYS[i]) == 0 then without_token[#without_token + 1] = KEYS[i] end
end
if ARGV[2] == '1' then redis.call('DEL', KEYS[2]) end
for i = 4, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', KEYS[2], ARGV[i])
  else
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  end
end
if ARGV[3] ~= '0' then redis.call('PEXPIRE', KEYS[2], ARGV[3]) end
for _, token in ipairs(without_token) do
  redis.call('LPUSH', token, '1')
  redis.call('PEXPIRE', token, 60000)
end
store_answer(KEYS[1], number, '')
return {'ok'}
