-- Adds an event, with Redis's time. A second copy is a second line.
-- KEYS[1] events  LIST
-- ARGV[1] how many to keep; 0 where the caller may not take any away  ARGV[2] level, who and text as msgpack
-- Returns {'ok'}

local most = tonumber(ARGV[1])
redis.call('RPUSH', KEYS[1], string.format('%013d', now_ms()) .. ARGV[2])
if most > 0 then redis.call('LTRIM', KEYS[1], -most, -1) end
return {'ok'}
