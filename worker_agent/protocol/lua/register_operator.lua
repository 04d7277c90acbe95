-- Register an operator (a `ctl`, an attached dashboard), which has no lease.
-- KEYS[1] actor's record  HASH
-- KEYS[2] meta            HASH
-- ARGV[1] time to live of the record, ms   ARGV[2] protocol, `major.minor`
-- Returns {'ok'} | {'none'} if there is no namespace | {'version', theirs}
-- Law: only a registered actor can make numbered calls (3).

local theirs = redis.call('HGET', KEYS[2], 'protocol')
if not theirs then return {'none'} end
if theirs ~= ARGV[2] then return {'version', theirs} end
if redis.call('HLEN', KEYS[1]) == 0 then
  redis.call('DEL', KEYS[1]) -- Redis allows this first write even without free memory: the operator may want to drain.
  redis.call('HSET', KEYS[1], 'number', '0', 'answer', '')
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return {'ok'}
