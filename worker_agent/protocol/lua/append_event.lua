-- Append an event with Redis's time to the namespace's log.
-- KEYS[1] events  LIST
-- ARGV[1] how many events to keep; 0 if the caller has no right to remove any
-- ARGV[2] level, who and text as msgpack
-- Returns {'ok'}
-- A second copy of the call (law 3) appends the same event again.

local most = tonumber(ARGV[1])
redis.call('RPUSH', KEYS[1], string.format('%013d', now_ms()) .. ARGV[2])
if most > 0 then redis.call('LTRIM', KEYS[1], -most, -1) end
return {'ok'}
