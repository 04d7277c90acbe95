-- Set or change one whole number of a channel or of the fleet (capacity, total, devices), and wake the server.
-- KEYS[1] actor's record  HASH
-- KEYS[2] counters (`books`) or fleet  HASH
-- KEYS[3] server's token  LIST
-- ARGV[1] number  ARGV[2] field  ARGV[3] `=N`, `+N` or `-N`  ARGV[4] the smallest value allowed
-- Returns {'ok', value} | {'low', the value that it would have} | {'again', value} | {'lost'} | {'stale'}
-- Law: a lowered capacity drops no tasks (6).

local number = tonumber(ARGV[1])
local refused = check_number(KEYS[1], number)
if refused then return refused end
local value = tonumber(redis.call('HGET', KEYS[2], ARGV[2]) or '') or 0
redis.call('LLEN', KEYS[3])
local sign, step = string.sub(ARGV[3], 1, 1), tonumber(string.sub(ARGV[3], 2))
if sign == '+' then value = value + step elseif sign == '-' then value = value - step else value = step end
if value < tonumber(ARGV[4]) then return {'low', string.format('%d', value)} end
redis.call('HSET', KEYS[2], ARGV[2], string.format('%d', value))
wake(KEYS[3])
store_answer(KEYS[1], number, string.format('%d', value))
return {'ok', string.format('%d', value)}
