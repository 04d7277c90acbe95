-- An agent adds lines to its device's log, of which the tail is kept. A second copy is the same lines twice.
-- KEYS[1] device's log  LIST
-- ARGV[1] most lines to keep  ARGV[2] time to live, ms  ARGV[3..] lines
-- Returns {'ok'}

redis.call('LLEN', KEYS[1])
for i = 3, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[i]) end
redis.call('LTRIM', KEYS[1], -tonumber(ARGV[1]), -1)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {'ok'}
