-- Answer a detect. The process that asked waits on this list.
-- KEYS[1] detect_answers  LIST
-- ARGV[1] answer, msgpack  ARGV[2] time to live, ms
-- Returns {'ok'}
-- A second copy of the call (law 3) appends a second answer, which the reader ignores.

redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {'ok'}
