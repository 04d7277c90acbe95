-- Read the desired state of an agent. Changes nothing.
-- KEYS[1] desired_devices (`wish:devices`) HASH  KEYS[2] desired_stop (`wish:stop`) HASH
-- KEYS[3] desired_detect (`wish:detect`) HASH  KEYS[4] desired_assignments (`wish:assign`) HASH
-- KEYS[5] desired_cancels (`wish:cancel`) HASH
-- ARGV[1] device  ARGV[2] actor
-- Returns {`running` or `paused`, `1` (stop), `2` (force stop), `r` (restart), `rr` or '', the detect to answer or '',
--          the channels to serve (`all`, or numbers such as `0,2`) or '', the tasks to cancel or ''}
-- Law: commands write state, and agents follow it (4).

local desired = redis.call('HMGET', KEYS[1], ARGV[1], 'default')
return {
  desired[1] or desired[2] or 'paused', redis.call('HGET', KEYS[2], ARGV[2]) or '',
  redis.call('HGET', KEYS[3], ARGV[1]) or '', redis.call('HGET', KEYS[4], ARGV[1]) or '',
  redis.call('HGET', KEYS[5], ARGV[2]) or '',
}
