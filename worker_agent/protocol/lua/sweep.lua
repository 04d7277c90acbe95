-- Find actors to recover and channels to promote, about once a second for the whole namespace.
-- KEYS[1] meta    HASH
-- KEYS[2] leases  ZSET actor -> expiry, ms (0: fenced, not yet recovered)
-- KEYS[3] fleet   HASH
-- KEYS[4] desired_channels (`wish:channels`)  HASH channel -> `paused`
-- KEYS[5..] for each channel: delayed ZSET, holders HASH actor -> number of its claimed tasks, waiting LIST, token LIST
-- Returns {for each actor to recover {actor, the channels of its claims, such as `0,2`}}, {channels with due tasks}
-- Law: recovery needs no server, and leases start afresh after Redis was away (8).
-- An agent that dies with a channel's token in its hand takes it along. So a sweep pushes a token where tasks wait and
-- none is left: agents at rest block for longer than a second.
-- If no process could sweep for a while (a gap), Redis was away, and all leases start afresh. A gap is half a lease,
-- and at least `GAP` ms: longer than the pause between two sweeps with a short lease. A shorter absence can hide
-- between two sweeps. So a lease that ended after the present sweep was due is judged by the next sweep. Until then
-- every live agent has sent a heartbeat: agent/registration.py repeats a failed one within half a second.

local GAP = 3000
-- The time between two sweeps is a second. A sweep that Redis takes slowly arrives a little later.
local DUE = 700
local lease = tonumber(redis.call('HGET', KEYS[1], 'lease_ms') or '')
if not lease then return {{}, {}} end
local now, swept = now_ms(), swept_ms(KEYS[3])
if not is_sweep_due(swept, now) then return {{}, {}} end
local afresh = swept == 0 or now < swept or now - swept > math.max(lease / 2, GAP)
local live = afresh and redis.call('ZRANGEBYSCORE', KEYS[2], '(0', '+inf') or {}
local dead = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', afresh and 0 or math.min(now, swept + DUE), 'LIMIT', 0, 16)
local due, held_in, has_lease, without_token = {}, {}, {}, {}
for _, actor in ipairs(dead) do held_in[actor] = {} end
redis.call('HLEN', KEYS[4])
for i = 5, #KEYS, 4 do
  local channel = string.format('%d', (i - 5) / 4)
  local waiting, tokens = redis.call('LLEN', KEYS[i + 2]), redis.call('LLEN', KEYS[i + 3])
  if waiting > 0 and tokens == 0 and redis.call('HGET', KEYS[4], channel) ~= 'paused' then
    without_token[#without_token + 1] = KEYS[i + 3]
  end
  local first = redis.call('ZRANGEBYSCORE', KEYS[i], '-inf', now, 'LIMIT', 0, 1)
  if #first > 0 then due[#due + 1] = channel end
  for _, actor in ipairs(redis.call('HKEYS', KEYS[i + 1])) do
    if #dead < 32 and not held_in[actor] and not has_lease[actor] then
      if redis.call('ZSCORE', KEYS[2], actor) then
        has_lease[actor] = true
      else
        dead[#dead + 1], held_in[actor] = actor, {}
      end
    end
    if held_in[actor] then table.insert(held_in[actor], channel) end
  end
end
for i, actor in ipairs(dead) do dead[i] = {actor, table.concat(held_in[actor], ',')} end
for _, actor in ipairs(live) do redis.call('ZADD', KEYS[2], now + lease, actor) end
for _, token in ipairs(without_token) do redis.call('LPUSH', token, '1') end
redis.call('HSET', KEYS[3], 'swept_ms', string.format('%d', now))
return {dead, due}
