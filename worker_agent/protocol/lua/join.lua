-- Register an agent on its device. A live holder of the device refuses it; a dead holder is fenced and replaced.
-- KEYS[1] actor's record    HASH
-- KEYS[2] meta              HASH
-- KEYS[3] leases            ZSET actor -> expiry, ms
-- KEYS[4] agents            HASH device -> actor
-- KEYS[5] holder's record   HASH of the actor that the caller found on the device (its own record if it found none)
-- KEYS[6] fleet             HASH
-- ARGV[1] actor  ARGV[2] device  ARGV[3] the highest channel that it names, -1 for none  ARGV[4] protocol
-- ARGV[5] the holder that the caller found, or ''  ARGV[6] '1' if the holder's process has certainly ended
-- ARGV[7..] record: field, value, ...
-- Returns {'ok', number of channels} | {'none'} | {'version', theirs} | {'channel', number of channels} | {'changed'}
--         | {'held', rest of the lease in ms} | {'lost'} for a late copy by an actor that has left
-- Laws: one agent on each device (7); the replaced actor is fenced (2).

local meta = redis.call('HMGET', KEYS[2], 'protocol', 'channels', 'lease_ms')
if not meta[1] then return {'none'} end
if meta[1] ~= ARGV[4] then return {'version', meta[1]} end
if tonumber(ARGV[3]) >= tonumber(meta[2]) then return {'channel', meta[2]} end
local holder = redis.call('HGET', KEYS[4], ARGV[2]) or ''
if holder == ARGV[1] then return {'ok', meta[2]} end
if redis.call('HLEN', KEYS[1]) > 0 then return {'lost'} end
if holder ~= ARGV[5] then return {'changed'} end
local devices = tonumber(redis.call('HGET', KEYS[6], 'devices') or '') or 0
local now = now_ms()
local lease = redis.call('ZSCORE', KEYS[3], holder)
local dead = holder ~= '' and redis.call('HGET', KEYS[5], 'dead')
if lease and not dead and ARGV[6] ~= '1' and tonumber(lease) > now then
  return {'held', string.format('%d', tonumber(lease) - now)}
end

redis.call('HSET', KEYS[1], 'number', '0', 'answer', '', unpack(ARGV, 7))
redis.call('PEXPIRE', KEYS[1], DEAD_TTL)
redis.call('ZADD', KEYS[3], now + tonumber(meta[3]), ARGV[1])
redis.call('HSET', KEYS[4], ARGV[2], ARGV[1])
if tonumber(ARGV[2]) >= devices then redis.call('HSET', KEYS[6], 'devices', tonumber(ARGV[2]) + 1) end
if holder ~= '' then
  redis.call('HSET', KEYS[5], 'dead', '1')
  redis.call('PEXPIRE', KEYS[5], DEAD_TTL)
  if lease then redis.call('ZADD', KEYS[3], 0, holder) end
end
return {'ok', meta[2]}
