-- An agent's one call: settles what it ran, hands back what it did not begin, claims the next (laws 1, 2, 3, 9).
-- KEYS[1] actor's record  HASH
-- KEYS[2] leases     ZSET
-- KEYS[3] books      HASH: done, allotted, foreign, capacity, starved, ...
-- KEYS[4] waiting    LIST of items
-- KEYS[5] delayed    ZSET item -> due, ms
-- KEYS[6] failed     HASH id -> item
-- KEYS[7] failed_at  ZSET id -> ms
-- KEYS[8] reasons    HASH id -> msgpack, one map a failed run
-- KEYS[9] results    LIST of header and msgpack
-- KEYS[10] holders   HASH actor -> number of its claims
-- KEYS[11] channel's running agents  ZSET
-- KEYS[12] claims    HASH id -> item, of this actor
-- KEYS[13] wish:channels  HASH channel -> `paused`
-- KEYS[14] channel's token  LIST
-- KEYS[15] server's token   LIST
-- KEYS[16] meta      HASH
-- ARGV[1] actor  ARGV[2] number  ARGV[3] channel  ARGV[4] most tasks to claim  ARGV[5] most bytes to claim
-- ARGV[6..] pairs: one letter and a task id, and what goes with it:
--   d done, with the result's list item   s done and saved elsewhere, with ''
--   f failed, with the reason as msgpack  x failed for good, with the reason   b handed back, with ''
--   c its process died and the agent did not (process mode): one crash more, no retry less; the reason is kept
--     at the third, which fails it
-- Returns {'ok', settles refused, waiting, items} | {'lost'} | {'stale'}
--         | {'gap'} where calls before this one are missing: Redis lost writes that it had acknowledged
-- The stored answer is the settles refused and the ids; its items are those still claimed.

local number = tonumber(ARGV[2])
local refused = refuse(KEYS[1], number)
if refused then
  if refused[1] ~= 'again' then return refused end
  local items, unknown = {}, tonumber(string.match(refused[2], '^%d+'))
  for id in string.gmatch(refused[2], ' ([^ ]+)') do
    items[#items + 1] = redis.call('HGET', KEYS[12], id) or nil
  end
  return {'ok', unknown, redis.call('LLEN', KEYS[4]), items}
end

-- An agent repeats each call until it is answered, so no number is left out. Where one is, what it holds here is not
-- what it has in hand, and would stay claimed for as long as it lives.
if number > tonumber(redis.call('HGET', KEYS[1], 'number')) + 1 then return {'gap'} end

local meta = redis.call('HMGET', KEYS[16], 'lease_ms', 'retries', 'retry_delay_ms')
local books = redis.call('HMGET', KEYS[3], 'capacity', 'starved')
local paused = redis.call('HGET', KEYS[13], ARGV[3]) == 'paused'
local agents = redis.call('ZCARD', KEYS[11])
local reasons = redis.call('HLEN', KEYS[8])
local held = redis.call('HLEN', KEYS[12])
local tokens, server_tokens = redis.call('LLEN', KEYS[14]), redis.call('LLEN', KEYS[15])
redis.call('LLEN', KEYS[4])
redis.call('ZCARD', KEYS[5])
redis.call('HLEN', KEYS[6])
redis.call('ZCARD', KEYS[7])
redis.call('LLEN', KEYS[9])
redis.call('HLEN', KEYS[10])
redis.call('ZSCORE', KEYS[2], ARGV[1])
local now = now_ms()
local retries, delay, lease = tonumber(meta[2]), tonumber(meta[3]), now + tonumber(meta[1])

local unknown, done, results, again, back, settled = 0, 0, {}, {}, {}, {}
for i = 6, #ARGV, 2 do
  local kind, id = string.sub(ARGV[i], 1, 1), string.sub(ARGV[i], 2)
  if kind == 'd' or kind == 's' then
    if redis.call('HDEL', KEYS[12], id) == 1 then
      done = done + 1
      settled[done] = id
      if kind == 'd' then results[#results + 1] = ARGV[i + 1] end
    else
      unknown = unknown + 1
    end
  else
    local item = redis.call('HGET', KEYS[12], id)
    if not item then
      unknown = unknown + 1
    else
      redis.call('HDEL', KEYS[12], id)
      if kind == 'b' then
        back[#back + 1] = item
      elseif kind == 'c' then
        local crashes = crashes_of(item) + 1
        item = with_counts(item, attempt_of(item), crashes)
        if crashes >= MAX_CRASHES then
          redis.call('HSET', KEYS[8], id, (redis.call('HGET', KEYS[8], id) or '') .. ARGV[i + 1])
          redis.call('HSET', KEYS[6], id, item)
          redis.call('ZADD', KEYS[7], now, id)
        else
          again[#again + 1] = item
        end
      else
        local attempt = attempt_of(item) + 1
        redis.call('HSET', KEYS[8], id, (redis.call('HGET', KEYS[8], id) or '') .. ARGV[i + 1])
        item = with_counts(item, attempt, crashes_of(item))
        if kind == 'x' or attempt > retries or attempt > MAX_ATTEMPTS then
          redis.call('HSET', KEYS[6], id, item)
          redis.call('ZADD', KEYS[7], now, id)
        elseif delay > 0 then
          redis.call('ZADD', KEYS[5], now + delay, item)
        else
          again[#again + 1] = item
        end
      end
    end
  end
end
spread('RPUSH', KEYS[9], results)
if done > 0 then redis.call('HINCRBY', KEYS[3], 'done', done) end
if reasons > 0 then spread('HDEL', KEYS[8], settled) end
spread('RPUSH', KEYS[4], again)
for i = #back, 1, -1 do redis.call('LPUSH', KEYS[4], back[i]) end
if held > 0 then held = redis.call('HLEN', KEYS[12]) end

local waiting = redis.call('LLEN', KEYS[4])
local wanted = paused and 0 or math.min(tonumber(ARGV[4]), 1000, math.ceil(waiting / math.max(1, agents)))
local claimed, bytes, most = {}, 0, tonumber(ARGV[5])
local looked = 0
-- A recovered task stands alone, in the claim and in the agent's hands: so where one is held, it is the only one.
local alone = wanted > 0 and held == 1 and crashes_of(redis.call('HVALS', KEYS[12])[1]) > 0
while looked < wanted and bytes < most and not alone do
  -- The first item alone tells how large they are; the rest then comes in few pieces, near the bound of bytes.
  local piece = 1
  if #claimed > 0 then
    piece = math.min(wanted - looked, math.max(1, math.floor((most - bytes) / (bytes / #claimed))))
  end
  local items = redis.call('LPOP', KEYS[4], piece)
  if not items or #items == 0 then break end
  local first_back = #items + 1
  for i, item in ipairs(items) do
    local ours = has_header(item)
    local crashed = ours and crashes_of(item) > 0
    if alone or bytes >= most or (crashed and #claimed + held > 0) then
      alone, first_back = alone or crashed, i
      break
    end
    looked = looked + 1
    if ours then
      claimed[#claimed + 1] = item
      bytes = bytes + #item
      alone = crashed
    else
      local foreign = redis.call('HINCRBY', KEYS[3], 'foreign', 1)
      local id = string.format('foreign0%012d', foreign)
      redis.call('HINCRBY', KEYS[3], 'allotted', 1)
      redis.call('HSET', KEYS[6], id, item)
      redis.call('ZADD', KEYS[7], now, id)
    end
  end
  for i = #items, first_back, -1 do redis.call('LPUSH', KEYS[4], items[i]) end
end

local pairs_, ids = {}, {}
for i, item in ipairs(claimed) do
  ids[i] = id_of(item)
  pairs_[2 * i - 1] = ids[i]
  pairs_[2 * i] = item
end
spread('HSET', KEYS[12], pairs_)
held = held + #claimed
if held > 0 then
  redis.call('HSET', KEYS[10], ARGV[1], held)
else
  redis.call('HDEL', KEYS[10], ARGV[1])
end
waiting = redis.call('LLEN', KEYS[4])
if waiting > 0 and not paused and tokens == 0 then redis.call('LPUSH', KEYS[14], '1') end
if books[2] == '1' and waiting <= tonumber(books[1]) / 2 then
  redis.call('HDEL', KEYS[3], 'starved')
  if server_tokens == 0 then redis.call('LPUSH', KEYS[15], '1') end
end
redis.call('ZADD', KEYS[2], lease, ARGV[1])
remember(KEYS[1], number, table.concat({unknown, unpack(ids)}, ' '))
return {'ok', unknown, waiting, claimed}
