-- Delete the last report of an offline device.
-- KEYS[1] actor's record  HASH
-- KEYS[2] devices  HASH device -> report
-- KEYS[3] agents   HASH device -> actor
-- KEYS[4] leases   ZSET
-- KEYS[5] desired_devices (`wish:devices`)  HASH
-- KEYS[6] desired_assignments (`wish:assign`)  HASH
-- KEYS[7] heard    ZSET device -> when its last heartbeat came, ms
-- ARGV[1] number  ARGV[2] device
-- Returns {'ok', 1, or 0 if there was no report} | {'held'} | {'again', the same as text} | {'lost'} | {'stale'}
-- Law: a device with a live agent is not purged (7).

local number = tonumber(ARGV[1])
local refused = check_number(KEYS[1], number)
if refused then return refused end
local actor = redis.call('HGET', KEYS[3], ARGV[2])
local lease = actor and redis.call('ZSCORE', KEYS[4], actor)
redis.call('HLEN', KEYS[2])
redis.call('HLEN', KEYS[5])
redis.call('HLEN', KEYS[6])
redis.call('ZCARD', KEYS[7])
if lease and tonumber(lease) > now_ms() then return {'held'} end
local purged = redis.call('HDEL', KEYS[2], ARGV[2])
redis.call('HDEL', KEYS[3], ARGV[2])
redis.call('HDEL', KEYS[5], ARGV[2])
redis.call('HDEL', KEYS[6], ARGV[2])
redis.call('ZREM', KEYS[7], ARGV[2])
store_answer(KEYS[1], number, string.format('%d', purged))
return {'ok', purged}
