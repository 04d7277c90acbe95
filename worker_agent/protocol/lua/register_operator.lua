-- Registers a passing actor (a ctl, an attached dashboard), so that its numbered calls count (law 3).
-- KEYS[1] actor's record  HASH
-- KEYS[2] meta            HASH
-- ARGV[1] record's time to live, ms   ARGV[2] protocol, `major.minor`
-- Returns {'ok'} | {'none'} no namespace there | {'version', theirs}

local theirs = redis.call('HGET', KEYS[2], 'protocol')
if not theirs then return {'none'} end
if theirs ~= ARGV[2] then return {'version', theirs} end
if redis.call('HLEN', KEYS[1]) == 0 then
  redis.call('DEL', KEYS[1]) -- A first write that Redis allows under maxmemory: who comes may come to drain.
  redis.call('HSET', KEYS[1], 'number', '0', 'answer', '')
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return {'ok'}
