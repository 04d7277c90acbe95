-- An agent reads its wishes (law 4); changes nothing.
-- KEYS[1] wish:devices HASH  KEYS[2] wish:stop HASH  KEYS[3] wish:detect HASH
-- ARGV[1] device  ARGV[2] actor
-- Returns {`running` or `paused`, how often it was asked to stop or '', the detect to answer or ''}

local desired = redis.call('HMGET', KEYS[1], ARGV[1], 'default')
return {
  desired[1] or desired[2] or 'paused', redis.call('HGET', KEYS[2], ARGV[2]) or '',
  redis.call('HGET', KEYS[3], ARGV[1]) or '',
}
