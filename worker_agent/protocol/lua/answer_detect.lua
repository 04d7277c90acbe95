-- An agent answers a detect: who asked blocks on this list. A second copy is a second line, which the asker passes over.
-- KEYS[1] answers  LIST
-- ARGV[1] answer, msgpack  ARGV[2] time to live, ms
-- Returns {'ok'}

redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {'ok'}
