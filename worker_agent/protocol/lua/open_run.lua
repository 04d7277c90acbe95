-- Register a server for the namespace, and resume the run in it or start a new run.
-- KEYS[1] actor's record    HASH
-- KEYS[2] meta              HASH
-- KEYS[3] server_lease (`lease:server`)  ZSET
-- KEYS[4] holder's record   HASH of the server that the caller found (its own record if it found none)
-- KEYS[5] desired_server (`wish:server`) HASH  KEYS[6] desired_devices (`wish:devices`) HASH
-- KEYS[7] desired_channels (`wish:channels`) HASH  KEYS[8] server's token LIST  KEYS[9] fleet HASH
-- KEYS[10] desired_assignments (`wish:assign`) HASH
-- then for each channel, old or new: books, waiting, delayed, failed, failed_at, reasons, results, holders, token,
-- tally, tries, marks, agents, traces, trace_uses
-- then for each actor with claims that the caller found: its claims HASH
-- ARGV[1] actor  ARGV[2] protocol  ARGV[3] the holder that the caller found, or ''
-- ARGV[4] '1' if the holder's process has certainly ended
-- ARGV[5] `resume`, `fresh` or ''  ARGV[6] id of a new run  ARGV[7] server's record, msgpack
-- ARGV[8] channels that the caller found in meta, 0 for none  ARGV[9] channels wanted  ARGV[10] devices, or '' to keep
-- ARGV[11] capacity, or '' to keep  ARGV[12] number of retry policies  ARGV[13] number of rates  ARGV[14] lease ms
-- ARGV[15] cap on undrained results  ARGV[16] `running` or `paused`: the state in which devices start
-- ARGV[17..] field and value of each retry policy (`retry` for all channels, `retry:CHANNEL` for one: times, delay in ms,
-- factor, longest delay in ms, jitter, and the classes of errors that alone, and that never, are retried), field and value
-- of each rate (`rate:CHANNEL`: tasks and per how many ms), then channel and actor of each actor with claims that the
-- caller found
-- Returns {'ok', run, '1' if resumed} | {'version', theirs} | {'held', record, rest of the lease in ms} | {'changed'}
--         | {'lost'} for a late copy by an actor that has left
--         | {'work', waiting, claimed, delayed, failed, results, channels not exhausted} | {'channels', number}
-- Laws: one server for each namespace (7); a new run never drops work without `fresh`; a resumed run continues at the
-- next item (5).

local meta = redis.call('HMGET', KEYS[2], 'protocol', 'run', 'channels', 'server', 'server_record')
if meta[1] and meta[1] ~= ARGV[2] then return {'version', meta[1]} end
local holder = meta[4] or ''
if holder == ARGV[1] then return {'ok', meta[2], redis.call('HGET', KEYS[1], 'resumed') or '0'} end
if redis.call('HLEN', KEYS[1]) > 0 then return {'lost'} end
if holder ~= ARGV[3] or (meta[3] or '0') ~= ARGV[8] then return {'changed'} end
local now = now_ms()
local lease = redis.call('ZSCORE', KEYS[3], holder)
local dead = holder ~= '' and redis.call('HGET', KEYS[4], 'dead')
if lease and not dead and ARGV[4] ~= '1' and tonumber(lease) > now then
  return {'held', meta[5], string.format('%d', tonumber(lease) - now)}
end
for i = 5, 7 do redis.call('HLEN', KEYS[i]) end
redis.call('HLEN', KEYS[10])
redis.call('LLEN', KEYS[8])
redis.call('HLEN', KEYS[9])

local old, new = tonumber(ARGV[8]), tonumber(ARGV[9])
local per, base = 15, 10
local rates_from = 17 + 2 * tonumber(ARGV[12])
local holders_from = rates_from + 2 * tonumber(ARGV[13])
local seen = {}
for i = holders_from, #ARGV, 2 do seen[ARGV[i] .. ' ' .. ARGV[i + 1]] = true end
local work = {0, 0, 0, 0, 0, 0}
for c = 0, math.max(old, new) - 1 do
  local at = base + c * per
  work[1] = work[1] + redis.call('LLEN', KEYS[at + 2])
  local holders = redis.call('HGETALL', KEYS[at + 8])
  for i = 1, #holders, 2 do
    work[2] = work[2] + (tonumber(holders[i + 1]) or 0)
    if not seen[c .. ' ' .. holders[i]] then return {'changed'} end
  end
  work[3] = work[3] + redis.call('ZCARD', KEYS[at + 3])
  work[4] = work[4] + redis.call('HLEN', KEYS[at + 4])
  redis.call('ZCARD', KEYS[at + 5])
  redis.call('HLEN', KEYS[at + 6])
  work[5] = work[5] + redis.call('LLEN', KEYS[at + 7])
  local exhausted = redis.call('HGET', KEYS[at + 1], 'exhausted')
  if c < old and exhausted ~= '1' then work[6] = work[6] + 1 end
  redis.call('LLEN', KEYS[at + 9])
  redis.call('HLEN', KEYS[at + 10])
  redis.call('HLEN', KEYS[at + 11])
  redis.call('HLEN', KEYS[at + 12])
  redis.call('ZCARD', KEYS[at + 13])
  redis.call('HLEN', KEYS[at + 14])
  redis.call('HLEN', KEYS[at + 15])
end
local holds = false
for _, count in ipairs(work) do holds = holds or count > 0 end
if holds and ARGV[5] == '' then return {'work', unpack(work)} end
local resumed = old > 0 and ARGV[5] == 'resume'
if resumed and old ~= new then return {'channels', meta[3]} end

if not resumed then
  for i = base + 1, #KEYS do
    -- Live agents continue in the channels that remain, and need not name these again.
    local kept = i <= base + new * per and (i - base) % per == 13
    if not kept then redis.call('DEL', KEYS[i]) end
  end
  redis.call('DEL', KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[10])
  redis.call('HSET', KEYS[2], 'run', ARGV[6], 'started_ms', string.format('%d', now))
  redis.call('HSET', KEYS[9], 'devices', '0')
  redis.call('HSET', KEYS[6], 'default', ARGV[16])
else
  redis.call('HDEL', KEYS[5], 'quit')
  if ARGV[16] == 'running' then redis.call('HSET', KEYS[6], 'default', 'running') end
end
for c = 0, new - 1 do
  local counters = KEYS[base + c * per + 1]
  if ARGV[11] ~= '' then redis.call('HSET', counters, 'capacity', ARGV[11]) end
  redis.call('HSETNX', counters, 'capacity', '50')
  redis.call('HSETNX', counters, 'cursor', '0')
  redis.call('HDEL', counters, 'halted')
  redis.call('HDEL', KEYS[base + c * per + 10], 'starved')
end
for _, field in ipairs(redis.call('HKEYS', KEYS[2])) do
  if string.find(field, '^retry') then redis.call('HDEL', KEYS[2], field) end
end
for i = 17, rates_from - 1, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
if holders_from > rates_from then
  for _, field in ipairs(redis.call('HKEYS', KEYS[7])) do
    if string.find(field, '^rate:') then redis.call('HDEL', KEYS[7], field) end
  end
  for i = rates_from, holders_from - 1, 2 do redis.call('HSET', KEYS[7], ARGV[i], ARGV[i + 1]) end
end
redis.call('HSET', KEYS[2], 'protocol', ARGV[2], 'channels', ARGV[9], 'lease_ms', ARGV[14], 'results_max', ARGV[15],
  'server', ARGV[1], 'server_record', ARGV[7], 'server_since_ms', string.format('%d', now))
if ARGV[10] ~= '' then redis.call('HSET', KEYS[9], 'devices', ARGV[10]) end
redis.call('HSET', KEYS[1], 'number', '0', 'answer', '', 'resumed', resumed and '1' or '0')
redis.call('PEXPIRE', KEYS[1], DEAD_TTL)
redis.call('ZADD', KEYS[3], now + tonumber(ARGV[14]), ARGV[1])
if holder ~= '' then
  redis.call('HSET', KEYS[4], 'dead', '1')
  redis.call('PEXPIRE', KEYS[4], DEAD_TTL)
  redis.call('ZREM', KEYS[3], holder)
end
return {'ok', resumed and meta[2] or ARGV[6], resumed and '1' or '0'}
