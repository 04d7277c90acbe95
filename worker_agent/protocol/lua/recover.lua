-- Fence an actor and requeue the tasks that it has claimed from one channel, each with one more crash. The third crash
-- fails a task.
-- KEYS[1] record of the actor  HASH
-- KEYS[2] leases     ZSET
-- KEYS[3] agents     HASH device -> actor
-- KEYS[4] the channel's agents  ZSET of the agents that run tasks
-- KEYS[5] waiting    LIST
-- KEYS[6] failed     HASH id -> item
-- KEYS[7] failed_at  ZSET id -> ms
-- KEYS[8] reasons    HASH id -> msgpack, one map for each failed run, of failed tasks
-- KEYS[9] claim_counts (`holders`)  HASH actor -> number of its claimed tasks
-- KEYS[10] claims of the actor      HASH number of a claim -> its items, `NUMBER:open` -> the state of each item
-- KEYS[11] channel's token   LIST
-- KEYS[12] retry_reasons (`tries`)  HASH id -> msgpack, one map for each failed run, of tasks that will run again
-- KEYS[13] traces  HASH digest -> traceback  KEYS[14] trace_uses  HASH digest -> how many runs of failed tasks have it
-- KEYS[15..] for each other channel: its agents ZSET, its claim_counts HASH
-- ARGV[1] actor  ARGV[2] most tasks in this call; the first claim may exceed it
-- ARGV[3] reason for a third crash, msgpack
-- Returns {'ok', requeued, failed, left, {places of the other channels with claims, from 1}} | {'alive'}
-- Laws: the actor is fenced in the same step (2); an actor whose lease has not ended is left alone, so a late copy of
-- the call does no harm (3); recovery needs no server (8); a crash uses up no retry (9).

local record = redis.call('HMGET', KEYS[1], 'dead', 'device', 'number')
local lease = redis.call('ZSCORE', KEYS[2], ARGV[1])
local now = now_ms()
if not record[1] and lease and tonumber(lease) > now then return {'alive'} end
local on_device = record[2] and redis.call('HGET', KEYS[3], record[2])
redis.call('ZCARD', KEYS[4])
local elsewhere = {}
for i = 15, #KEYS, 2 do
  redis.call('ZCARD', KEYS[i])
  if redis.call('HGET', KEYS[i + 1], ARGV[1]) then elsewhere[#elsewhere + 1] = (i - 13) / 2 end
end
redis.call('LLEN', KEYS[5])
redis.call('HLEN', KEYS[6])
redis.call('ZCARD', KEYS[7])
redis.call('HLEN', KEYS[8])
redis.call('HLEN', KEYS[9])
redis.call('LLEN', KEYS[11])
redis.call('HLEN', KEYS[12])
redis.call('HLEN', KEYS[13])
redis.call('HLEN', KEYS[14])
local held, fields, left = {}, {}, 0
for _, field in ipairs(redis.call('HKEYS', KEYS[10])) do
  local claim = string.match(field, '^(.+):open$')
  if claim then
    local open = redis.call('HGET', KEYS[10], field)
    local _, settled = string.gsub(open, '%' .. SETTLED, '')
    local tasks = #open - settled
    if #held > 0 and #held + tasks > tonumber(ARGV[2]) then
      left = left + tasks
    else
      local unpacked, items = pcall(cmsgpack.unpack, redis.call('HGET', KEYS[10], claim))
      for place = 1, #open do
        local item = unpacked and type(items) == 'table' and items[place]
        -- Every agent may write claims. A value that is not a string is no task. An item without a header is requeued
        -- and becomes a foreign task when it is claimed.
        if type(item) == 'string' and string.sub(open, place, place) ~= SETTLED then
          held[#held + 1] = has_header(item) and with_counts(item, attempt_of(item), crashes_of(item) + 1) or item
        end
      end
      fields[#fields + 1], fields[#fields + 2] = claim, field
    end
  end
end

call_in_pieces('HDEL', KEYS[10], fields)
local requeued, failed = {}, 0
local fail_channel = {
  failed = KEYS[6], failed_at = KEYS[7], reasons = KEYS[8], retry_reasons = KEYS[12], traces = KEYS[13],
  trace_uses = KEYS[14],
}
for _, item in ipairs(held) do
  if has_header(item) and crashes_of(item) >= MAX_CRASHES then
    local id = id_of(item)
    move_to_failed(fail_channel, now, id, item, ARGV[3] .. cmsgpack.pack({given_up = 'crashes'}))
    failed = failed + 1
  else
    requeued[#requeued + 1] = item
  end
end
call_in_pieces('RPUSH', KEYS[5], requeued)
if left == 0 then
  redis.call('HDEL', KEYS[9], ARGV[1])
else
  redis.call('HSET', KEYS[9], ARGV[1], left)
end
-- While claims are left, the next sweep finds the actor by its lease, whether or not this caller goes on.
if left == 0 and #elsewhere == 0 then
  redis.call('ZREM', KEYS[2], ARGV[1])
else
  redis.call('ZADD', KEYS[2], 0, ARGV[1])
end
redis.call('ZREM', KEYS[4], ARGV[1])
for i = 15, #KEYS, 2 do redis.call('ZREM', KEYS[i], ARGV[1]) end
if on_device == ARGV[1] then redis.call('HDEL', KEYS[3], record[2]) end
if record[3] then
  redis.call('HSET', KEYS[1], 'dead', '1')
  redis.call('PEXPIRE', KEYS[1], DEAD_TTL)
end
if #requeued > 0 then wake(KEYS[11]) end
return {'ok', #requeued, failed, left, elsewhere}
