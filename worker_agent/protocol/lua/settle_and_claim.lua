-- An agent's one call: settles what it ran, hands back what it did not begin, claims the next (laws 1, 2, 3, 9).
-- KEYS[1] actor's record  HASH
-- KEYS[2] leases     ZSET
-- KEYS[3] books      HASH: capacity, ...
-- KEYS[4] waiting    LIST of items
-- KEYS[5] delayed    ZSET item -> due, ms
-- KEYS[6] failed     HASH id -> item
-- KEYS[7] failed_at  ZSET id -> ms
-- KEYS[8] reasons    HASH id -> msgpack, one map a failed run, of what has failed
-- KEYS[9] results    LIST of header and msgpack
-- KEYS[10] holders   HASH actor -> number of its claimed tasks
-- KEYS[11] channel's running agents  ZSET
-- KEYS[12] claims    HASH, of this actor: a claim's number -> its items, `NUMBER:open` -> their states (see the prelude)
-- KEYS[13] wish:channels  HASH channel -> `paused`
-- KEYS[14] channel's token  LIST
-- KEYS[15] server's token   LIST
-- KEYS[16] meta      HASH
-- KEYS[17] tally     HASH: done, errors, foreign, starved
-- KEYS[18] tries     HASH id -> msgpack, one map a failed run, of what is still to be run
-- ARGV[1] actor  ARGV[2] number  ARGV[3] channel  ARGV[4] most tasks to claim  ARGV[5] most bytes to claim
-- ARGV[6..] runs of neighbours in one claim: the claim's number, the place of the first (from 1), a letter for each,
-- and for each what goes with it:
--   d done, with the result's list item   s done and saved elsewhere, with ''
--   f failed, with the reason as msgpack  x failed for good, with the reason   b handed back, with ''
--   c its process died and the agent did not (process mode): one crash more, no retry less; the reason is kept
--     at the third, which fails it
-- Returns {'ok', settles refused, waiting, items as a msgpack array or '', the claim's number} | {'lost'} | {'stale'}
--         | {'gap'} where calls before this one are missing: Redis lost writes that it had acknowledged
-- The stored answer is the settles refused; its items are the claim of that number, which only a later call changes.

local number = tonumber(ARGV[2])
local refused, last = refuse(KEYS[1], number)
if refused then
  if refused[1] ~= 'again' then return refused end
  return {'ok', tonumber(refused[2]), redis.call('LLEN', KEYS[4]), redis.call('HGET', KEYS[12], ARGV[2]) or '', ARGV[2]}
end

-- An agent repeats each call until it is answered, so no number is left out. Where one is, what it holds here is not
-- what it has in hand, and would stay claimed for as long as it lives.
if number > last + 1 then return {'gap'} end

local lease_ms = tonumber(redis.call('HGET', KEYS[16], 'lease_ms') or '') + 0
local starved = redis.call('HGET', KEYS[17], 'starved') == '1'
local half_full = starved and tonumber(redis.call('HGET', KEYS[3], 'capacity')) / 2
local server_tokens = starved and redis.call('LLEN', KEYS[15])
local paused = redis.call('HGET', KEYS[13], ARGV[3]) == 'paused'
local agents = redis.call('ZCARD', KEYS[11])
local held = tonumber(redis.call('HGET', KEYS[10], ARGV[1]) or '0') + 0
local waiting, tokens = redis.call('LLEN', KEYS[4]), redis.call('LLEN', KEYS[14])
local lease_ends = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1]) or '0')
redis.call('HLEN', KEYS[6])
redis.call('ZCARD', KEYS[7])
redis.call('HLEN', KEYS[12])
local now, unknown = now_ms(), 0

-- Lays `items`, from one of them on, before all that wait.
local function put_first(items, from)
  local backwards = {}
  for i = #items, from, -1 do backwards[#backwards + 1] = items[i] end
  spread('LPUSH', KEYS[4], backwards)
end

if #ARGV > 5 then
  -- What comes of each settlement. Nothing is written before all are read.
  local settled, done, errors = 0, 0, 0
  local results = {} -- pieces of ARGV, each from and to
  local again, back, later, failed, tries, solved = {}, {}, {}, {}, {}, {}
  local retries, delay

  local function settle(outcome, state, item, place)
    local id, with = id_of(item), ARGV[place]
    if outcome == DONE or outcome == SAVED then
      done = done + 1
      if outcome == DONE then results[#results + 1] = {place, place} end
      if state ~= NEW then solved[#solved + 1] = id end
    elseif outcome == HANDED_BACK then
      back[#back + 1] = item
    elseif outcome == CRASHED then
      errors = errors + 1
      local crashes = crashes_of(item) + 1
      item = with_counts(item, attempt_of(item), crashes)
      if crashes >= MAX_CRASHES then
        failed[#failed + 1] = {id, item, with}
      else
        again[#again + 1] = item
      end
    else
      errors = errors + 1
      local attempt = attempt_of(item) + 1
      item = with_counts(item, attempt, crashes_of(item))
      if outcome == UNDECODABLE or attempt > retries or attempt > MAX_ATTEMPTS then
        failed[#failed + 1] = {id, item, with}
      else
        tries[#tries + 1] = {id, with}
        if delay > 0 then later[#later + 1] = item else again[#again + 1] = item end
      end
    end
  end

  redis.call('LLEN', KEYS[9])
  local not_solved, runs_of_done = '[^' .. DONE .. SAVED .. ']', '()' .. DONE .. '+()'
  local claims, at = {}, 6
  while at <= #ARGV do
    local claim, first, letters = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2]
    local known = claims[claim] or {open = redis.call('HGET', KEYS[12], claim .. ':open') or ''}
    local open = string.sub(known.open, first, first + #letters - 1)
    claims[claim] = known
    if #open == #letters and not string.find(letters, not_solved) and not string.find(open, '[^' .. NEW .. ']') then
      settled, done = settled + #letters, done + #letters
      for from, behind in string.gmatch(letters, runs_of_done) do
        results[#results + 1] = {at + 2 + from, at + 1 + behind}
      end
    else
      if not retries then
        local meta = redis.call('HMGET', KEYS[16], 'retries', 'retry_delay_ms')
        retries, delay = tonumber(meta[1]), tonumber(meta[2])
        redis.call('ZCARD', KEYS[5])
        redis.call('HLEN', KEYS[8])
        redis.call('HLEN', KEYS[18])
      end
      if open ~= '' and not known.items then
        known.items = cmsgpack.unpack(redis.call('HGET', KEYS[12], claim))
      end
      for i = 1, #letters do
        local state = string.sub(open, i, i)
        if state == '' or state == SETTLED then
          unknown = unknown + 1
        else
          settled = settled + 1
          settle(string.sub(letters, i, i), state, known.items[first + i - 1], at + 2 + i)
        end
      end
    end
    known.open = string.sub(known.open, 1, first - 1) .. string.rep(SETTLED, #open)
      .. string.sub(known.open, first + #open)
    at = at + 3 + #letters
  end
  held = held - settled

  for claim, known in pairs(claims) do
    if string.find(known.open, '[^' .. SETTLED .. ']') then
      -- Taken out first: under maxmemory a script's first write must be one that frees.
      redis.call('HDEL', KEYS[12], claim .. ':open')
      redis.call('HSET', KEYS[12], claim .. ':open', known.open)
    elseif known.open ~= '' then
      redis.call('HDEL', KEYS[12], claim, claim .. ':open')
    end
  end
  for _, piece in ipairs(results) do redis.call('RPUSH', KEYS[9], unpack(ARGV, piece[1], piece[2])) end
  if done > 0 then redis.call('HINCRBY', KEYS[17], 'done', done) end
  if errors > 0 then redis.call('HINCRBY', KEYS[17], 'errors', errors) end
  spread('HDEL', KEYS[18], solved)
  for _, pair in ipairs(tries) do
    redis.call('HSET', KEYS[18], pair[1], (redis.call('HGET', KEYS[18], pair[1]) or '') .. pair[2])
  end
  for _, it in ipairs(failed) do
    redis.call('HSETNX', KEYS[6], it[1], it[2])
    redis.call('ZADD', KEYS[7], now, it[1])
    redis.call('HSETNX', KEYS[8], it[1], (redis.call('HGET', KEYS[18], it[1]) or '') .. it[3])
    redis.call('HDEL', KEYS[18], it[1])
  end
  for _, item in ipairs(later) do redis.call('ZADD', KEYS[5], now + delay, item) end
  spread('RPUSH', KEYS[4], again)
  put_first(back, 1)
  waiting = waiting + #again + #back
end

local wanted = paused and 0 or math.min(tonumber(ARGV[4]), 1000, math.ceil(waiting / math.max(1, agents)))
local items, states, bytes, most = {}, {}, 0, tonumber(ARGV[5])
local looked = 0
-- A recovered task stands alone, in the claim and in the agent's hands: so where one is held, it is the only one.
local alone = false
if wanted > 0 and held == 1 then
  for _, field in ipairs(redis.call('HKEYS', KEYS[12])) do
    if string.find(field, ':open$') then
      alone = string.find(redis.call('HGET', KEYS[12], field), CRASHED_BEFORE) ~= nil
    end
  end
end
while looked < wanted and bytes < most and not alone do
  -- The first item alone tells how large they are; the rest then comes in few pieces, near the bound of bytes.
  local piece = 1
  if #items > 0 then
    piece = math.min(wanted - looked, math.max(1, math.floor((most - bytes) / (bytes / #items))))
  end
  local popped = redis.call('LPOP', KEYS[4], piece)
  if not popped or #popped == 0 then break end
  local first_back = #popped + 1
  for i, item in ipairs(popped) do
    local state = state_of(item)
    if alone or bytes >= most or (state == CRASHED_BEFORE and #items + held > 0) then
      alone, first_back = alone or state == CRASHED_BEFORE, i
      break
    end
    looked = looked + 1
    if state then
      items[#items + 1], states[#states + 1] = item, state
      bytes = bytes + #item
      alone = state == CRASHED_BEFORE
    else
      local foreign = redis.call('HINCRBY', KEYS[17], 'foreign', 1)
      local id = string.format('foreign0%012d', foreign)
      redis.call('HSETNX', KEYS[6], id, item)
      redis.call('ZADD', KEYS[7], now, id)
    end
  end
  put_first(popped, first_back)
end
waiting = waiting - looked

local packed = ''
if #items > 0 then
  packed = cmsgpack.pack(items)
  redis.call('HSET', KEYS[12], ARGV[2], packed, ARGV[2] .. ':open', table.concat(states))
end
held = held + #items
if held > 0 then
  redis.call('HSET', KEYS[10], ARGV[1], held)
else
  redis.call('HDEL', KEYS[10], ARGV[1])
end
if waiting > 0 and not paused and tokens == 0 then redis.call('LPUSH', KEYS[14], '1') end
if starved and waiting <= half_full then
  redis.call('HDEL', KEYS[17], 'starved')
  if server_tokens == 0 then redis.call('LPUSH', KEYS[15], '1') end
end
-- Reports renew it each second too: what is nearly new needs no write.
if math.abs(lease_ends - now - 0.95 * lease_ms) > 0.05 * lease_ms then
  redis.call('ZADD', KEYS[2], now + lease_ms, ARGV[1])
end
remember(KEYS[1], number, string.format('%d', unknown))
return {'ok', unknown, waiting, packed, ARGV[2]}
