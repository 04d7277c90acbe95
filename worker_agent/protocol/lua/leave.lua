-- End an actor in order: fence it, and leave the tasks that it still holds to recovery.
-- KEYS[1] actor's record  HASH
-- KEYS[2] leases          ZSET (for a server: lease:server)
-- KEYS[3] agents          HASH device -> actor
-- KEYS[4] meta            HASH
-- KEYS[5..] of an agent, for each channel: the channel's agents ZSET, the agent's claims HASH
-- ARGV[1] actor  ARGV[2] device, or ''
-- Returns {'ok'}
-- Law: what the actor sends after this changes nothing (2).

local record = redis.call('HLEN', KEYS[1])
local holder = ARGV[2] ~= '' and redis.call('HGET', KEYS[3], ARGV[2])
local server = redis.call('HGET', KEYS[4], 'server')
local held = 0
for i = 5, #KEYS, 2 do
  redis.call('ZCARD', KEYS[i])
  held = held + redis.call('HLEN', KEYS[i + 1])
end
local lease = redis.call('ZSCORE', KEYS[2], ARGV[1])
for i = 5, #KEYS, 2 do redis.call('ZREM', KEYS[i], ARGV[1]) end
if held == 0 then
  redis.call('ZREM', KEYS[2], ARGV[1])
elseif lease then
  redis.call('ZADD', KEYS[2], 0, ARGV[1])
end
if holder == ARGV[1] then redis.call('HDEL', KEYS[3], ARGV[2]) end
if server == ARGV[1] then redis.call('HDEL', KEYS[4], 'server') end
if record > 0 then
  redis.call('HSET', KEYS[1], 'dead', '1')
  redis.call('PEXPIRE', KEYS[1], 3600000)
end
return {'ok'}
