-- Append lines to a device's log, or to the lines of its tasks, and keep only the last ones.
-- KEYS[1] device_log or device_lines  LIST
-- ARGV[1] most lines to keep  ARGV[2] time to live, ms  ARGV[3..] lines
-- Returns {'ok'}
-- A second copy of the call (law 3) appends the same lines again.

redis.call('LLEN', KEYS[1])
for i = 3, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[i]) end
redis.call('LTRIM', KEYS[1], -tonumber(ARGV[1]), -1)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {'ok'}
