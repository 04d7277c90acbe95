-- Settle tasks, hand back others and claim the next ones: the only call of an agent's claim loop.
-- KEYS[1] actor's record  HASH
-- KEYS[2] leases     ZSET actor -> expiry, ms
-- KEYS[3] counters (`books`)  HASH: capacity, ...
-- KEYS[4] waiting    LIST of items
-- KEYS[5] delayed    ZSET item -> due, ms
-- KEYS[6] failed     HASH id -> item
-- KEYS[7] failed_at  ZSET id -> ms
-- KEYS[8] reasons    HASH id -> msgpack, one map for each failed run, of failed tasks
-- KEYS[9] results    LIST of header and msgpack
-- KEYS[10] claim_counts (`holders`)  HASH actor -> number of its claimed tasks
-- KEYS[11] the channel's agents      ZSET of the agents that run tasks
-- KEYS[12] claims of this actor      HASH number of a claim -> its items, `NUMBER:open` -> their states (prelude.lua)
-- KEYS[13] desired_channels (`wish:channels`)  HASH channel -> `paused`; `rate:CHANNEL` -> tasks and per how many ms
-- KEYS[14] channel's token  LIST
-- KEYS[15] server's token   LIST
-- KEYS[16] meta      HASH
-- KEYS[17] agent_counters (`tally`)  HASH: done, errors, foreign, starved, rate_ms (when the rate allows the next task)
-- KEYS[18] retry_reasons (`tries`)   HASH id -> msgpack, one map for each failed run, of tasks that will run again
-- KEYS[19] traces  HASH digest -> traceback  KEYS[20] trace_uses  HASH digest -> how many runs of failed tasks have it
-- KEYS[21..] waiting LISTs of other channels
-- ARGV[1] actor  ARGV[2] number  ARGV[3] channel  ARGV[4] most tasks to claim  ARGV[5] most bytes to claim
-- ARGV[6] number of tasks that the actor has claimed from other channels
-- ARGV[7] number of other channels  ARGV[8..] their numbers
-- Then runs of neighbours in one claim: the claim's number, the place of the first task (from 1), one letter for
-- the outcome of each task, then what each outcome carries (`settlements.py` has the outcomes):
--   DONE the result's list item   SAVED ''   HANDED_BACK ''   UNDECODABLE, CRASHED the reason as msgpack
--   FAILED `MODE AFTER NAMES`, a zero byte, and the reason as msgpack (`settlements.py` has the modes)
-- Returns {'ok', settlements refused, waiting, items as a msgpack array or '', the claim's number,
--          {waiting in each other channel, 0 if it is paused},
--          1 if the next task crashed before and waits until the actor holds no task,
--          in how many ms the channel's rate allows the next task; 0 if no rate holds tasks back}
--         | {'lost'} | {'stale'}
--         | {'gap'} if calls before this one are missing: Redis lost writes that it had acknowledged
-- Laws: the counters stay balanced (1); a task is recorded once (2); a second copy of the call changes nothing (3): the
-- stored answer is the number of refused settlements, and the claim of that number still has the items; a crash uses up
-- no retry, the third crash fails the task, and a task that crashed is claimed alone (9).

local number, others = tonumber(ARGV[2]), tonumber(ARGV[7])
local first_run, elsewhere = 8 + others, {}
for first = 1, others, 1000 do -- In pieces: `unpack` has a limit.
  local last = math.min(first + 999, others)
  local desired = redis.call('HMGET', KEYS[13], unpack(ARGV, 7 + first, 7 + last))
  for i = first, last do
    elsewhere[i] = desired[i - first + 1] == 'paused' and 0 or redis.call('LLEN', KEYS[20 + i])
  end
end

local refused, last = check_number(KEYS[1], number)
if refused then
  if refused[1] ~= 'again' then return refused end
  return {
    'ok', tonumber(refused[2]), redis.call('LLEN', KEYS[4]), redis.call('HGET', KEYS[12], ARGV[2]) or '', ARGV[2],
    elsewhere, 0, 0,
  }
end

-- An agent repeats each call until it gets an answer, so it leaves out no number. If a number is missing, the actor's
-- claims here differ from the agent's tasks in flight, and would stay claimed as long as the agent lives.
if number > last + 1 then return {'gap'} end

local lease_ms = tonumber(redis.call('HGET', KEYS[16], 'lease_ms') or '') + 0
local starved = redis.call('HGET', KEYS[17], 'starved') == '1'
local half_full = starved and tonumber(redis.call('HGET', KEYS[3], 'capacity')) / 2
local server_tokens = starved and redis.call('LLEN', KEYS[15])
local desired = redis.call('HMGET', KEYS[13], ARGV[3], 'rate:' .. ARGV[3])
local paused, rate = desired[1] == 'paused', desired[2]
local allowed_ms, interval = 0, 0 -- When the rate allows the next task, and the ms between two tasks.
if rate then
  local count, period = string.match(rate, '^(%S+) (%S+)$')
  allowed_ms, interval = tonumber(redis.call('HGET', KEYS[17], 'rate_ms') or '') or 0, period / count
end
local agents = redis.call('ZCARD', KEYS[11])
local held = tonumber(redis.call('HGET', KEYS[10], ARGV[1]) or '0') + 0
local waiting, tokens = redis.call('LLEN', KEYS[4]), redis.call('LLEN', KEYS[14])
local lease_ends = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1]) or '0')
redis.call('HLEN', KEYS[6])
redis.call('ZCARD', KEYS[7])
redis.call('HLEN', KEYS[12])
local held_elsewhere = tonumber(ARGV[6]) + 0
local now, unknown = now_ms(), 0

-- Push `items`, from the index `from` on, before all waiting items.
local function requeue_first(items, from)
  local reversed = {}
  for i = #items, from, -1 do reversed[#reversed + 1] = items[i] end
  call_in_pieces('LPUSH', KEYS[4], reversed)
end

if #ARGV >= first_run then
  -- All settlements are read before the first write.
  local settled, done, errors = 0, 0, 0
  local results = {} -- pieces of ARGV: first and last index
  local requeued, retried, handed_back, delayed, failed = {}, {}, {}, {}, {}
  local retry_reasons, succeeded_retries = {}, {}
  local policy

  -- Return whether one of the classes of a policy's list is among the classes of an error.
  local function is_any_of(list, names)
    for name in string.gmatch(list, '[^,]+') do
      local from_any_module = string.sub(name, 1, 1) == ':'
      if string.find(',' .. names .. ',', (from_any_module and '' or ',') .. name .. ',', 1, true) then return true end
    end
    return false
  end

  -- Return the delay before the next run after `attempt` failed ones, in ms. The jitter is a hash of task and attempt.
  local function delay_before(attempt, id)
    local delay = math.min(policy.max_delay, policy.delay * policy.factor ^ (attempt - 1))
    local spread = 1 - policy.jitter + 2 * policy.jitter * fraction_of(id .. attempt)
    return math.floor(math.min(policy.max_delay, delay * spread))
  end

  local function settle_failed(id, item, carried)
    local mode, after, names, behind = string.match(carried, '^(%l) (%d*) ([^%z]*)%z()')
    local attempt, reason = attempt_of(item) + 1, behind and string.sub(carried, behind) or carried
    item = with_counts(item, attempt, crashes_of(item))
    local given_up
    if mode == GIVE_UP then
      given_up = 'gave_up'
    elseif mode ~= RETRY and policy.never ~= '-' and is_any_of(policy.never, names or '') then
      given_up = 'never'
    elseif mode ~= RETRY and policy.only ~= '-' and not is_any_of(policy.only, names or '') then
      given_up = 'only'
    elseif attempt > (option_of(item, 'r') or policy.times) or attempt > MAX_ATTEMPTS then
      given_up = 'no_retries'
    end
    if given_up then
      failed[#failed + 1] = {id, item, reason .. cmsgpack.pack({given_up = given_up})}
      return
    end
    local delay = mode == RETRY and tonumber(after) or delay_before(attempt, id)
    retry_reasons[#retry_reasons + 1] = {id, delay > 0 and reason .. cmsgpack.pack({delay_ms = delay}) or reason}
    if delay > 0 then delayed[#delayed + 1] = {now + delay, item} else retried[#retried + 1] = item end
  end

  local function settle(outcome, state, item, place)
    local id, carried = id_of(item), ARGV[place]
    if outcome == DONE or outcome == SAVED then
      done = done + 1
      if outcome == DONE then results[#results + 1] = {place, place} end
      if state ~= NEW then succeeded_retries[#succeeded_retries + 1] = id end
    elseif outcome == HANDED_BACK then
      handed_back[#handed_back + 1] = item
    elseif outcome == CRASHED then
      errors = errors + 1
      local crashes = crashes_of(item) + 1
      item = with_counts(item, attempt_of(item), crashes)
      if crashes >= MAX_CRASHES then
        failed[#failed + 1] = {id, item, carried .. cmsgpack.pack({given_up = 'crashes'})}
      else
        requeued[#requeued + 1] = item
      end
    elseif outcome == UNDECODABLE then
      errors = errors + 1
      item = with_counts(item, attempt_of(item) + 1, crashes_of(item))
      failed[#failed + 1] = {id, item, carried .. cmsgpack.pack({given_up = 'undecodable'})}
    else
      errors = errors + 1
      settle_failed(id, item, carried)
    end
  end

  redis.call('LLEN', KEYS[9])
  local not_succeeded, runs_of_done = '[^' .. DONE .. SAVED .. ']', '()' .. DONE .. '+()'
  local claims, at = {}, first_run
  while at <= #ARGV do
    local claim, first, letters = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2]
    local claim_state = claims[claim] or {open = redis.call('HGET', KEYS[12], claim .. ':open') or ''}
    local open = string.sub(claim_state.open, first, first + #letters - 1)
    claims[claim] = claim_state
    if #open == #letters and not string.find(letters, not_succeeded) and not string.find(open, '[^' .. NEW .. ']') then
      settled, done = settled + #letters, done + #letters
      for from, behind in string.gmatch(letters, runs_of_done) do
        results[#results + 1] = {at + 2 + from, at + 1 + behind}
      end
    else
      if not policy then
        local texts = redis.call('HMGET', KEYS[16], 'retry:' .. ARGV[3], 'retry')
        local times, delay, factor, max_delay, jitter, only, never =
          string.match(texts[1] or texts[2] or '3 0 2 600000 0 - -', '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
        policy = {
          times = tonumber(times), delay = tonumber(delay), factor = tonumber(factor), max_delay = tonumber(max_delay),
          jitter = tonumber(jitter), only = only, never = never,
        }
        redis.call('ZCARD', KEYS[5])
        for _, i in ipairs({8, 18, 19, 20}) do redis.call('HLEN', KEYS[i]) end
      end
      if open ~= '' and not claim_state.items then
        claim_state.items = cmsgpack.unpack(redis.call('HGET', KEYS[12], claim))
      end
      for i = 1, #letters do
        local state = string.sub(open, i, i)
        if state == '' or state == SETTLED then
          unknown = unknown + 1
        else
          settled = settled + 1
          settle(string.sub(letters, i, i), state, claim_state.items[first + i - 1], at + 2 + i)
        end
      end
    end
    claim_state.open = string.sub(claim_state.open, 1, first - 1) .. string.rep(SETTLED, #open)
      .. string.sub(claim_state.open, first + #open)
    at = at + 3 + #letters
  end
  held = held - settled

  for claim, claim_state in pairs(claims) do
    if string.find(claim_state.open, '[^' .. SETTLED .. ']') then
      -- Delete first: without free memory, Redis allows a script only if its first write frees memory.
      redis.call('HDEL', KEYS[12], claim .. ':open')
      redis.call('HSET', KEYS[12], claim .. ':open', claim_state.open)
    elseif claim_state.open ~= '' then
      redis.call('HDEL', KEYS[12], claim, claim .. ':open')
    end
  end
  for _, piece in ipairs(results) do redis.call('RPUSH', KEYS[9], unpack(ARGV, piece[1], piece[2])) end
  if done > 0 then redis.call('HINCRBY', KEYS[17], 'done', done) end
  if errors > 0 then redis.call('HINCRBY', KEYS[17], 'errors', errors) end
  call_in_pieces('HDEL', KEYS[18], succeeded_retries)
  for _, pair in ipairs(retry_reasons) do
    redis.call('HSET', KEYS[18], pair[1], (redis.call('HGET', KEYS[18], pair[1]) or '') .. pair[2])
  end
  local fail_channel = {
    failed = KEYS[6], failed_at = KEYS[7], reasons = KEYS[8], retry_reasons = KEYS[18], traces = KEYS[19],
    trace_uses = KEYS[20],
  }
  for _, task in ipairs(failed) do move_to_failed(fail_channel, now, task[1], task[2], task[3]) end
  for _, task in ipairs(delayed) do redis.call('ZADD', KEYS[5], string.format('%d', task[1]), task[2]) end
  call_in_pieces('RPUSH', KEYS[4], requeued)
  -- A function that always fails is told within seconds, however many tasks wait.
  requeue_first(handed_back, 1)
  requeue_first(retried, 1)
  waiting = waiting + #requeued + #retried + #handed_back
  allowed_ms = allowed_ms - #handed_back * interval -- Tasks that never started used up nothing of the rate.
end

local wanted = paused and 0 or math.min(tonumber(ARGV[4]), 1000, math.ceil(waiting / math.max(1, agents)))
-- The rate of the channel (GCRA, the generic cell rate algorithm): each task moves `allowed_ms` by one interval. After a
-- pause a second's worth of tasks may go at once. An agent that comes a little late loses nothing of the rate.
local late, allowed = 0, 1000
if rate then
  late = math.min(500, interval / 2)
  local burst = math.max(1, math.floor(1000 / interval))
  -- An agent may have written any value. The condition is negated so that it is true for NaN.
  if not (allowed_ms >= 0) then allowed_ms = 0 end
  allowed_ms = math.max(math.min(allowed_ms, now + interval), now - (burst - 1) * interval - late)
  allowed = now >= allowed_ms and math.floor((now - allowed_ms) / interval) + 1 or 0
  wanted = math.min(wanted, allowed)
end
local items, states, bytes, max_bytes = {}, {}, 0, tonumber(ARGV[5])
local taken, next_crashed = 0, 0
-- A task that crashed before is claimed alone: no other task is in its claim or in flight with it. So if the actor
-- holds such a task, it holds only this one.
local alone = false
if wanted > 0 and held == 1 then
  for _, field in ipairs(redis.call('HKEYS', KEYS[12])) do
    if string.find(field, ':open$') then
      alone = string.find(redis.call('HGET', KEYS[12], field), CRASHED_BEFORE) ~= nil
    end
  end
end
while taken < wanted and bytes < max_bytes and not alone do
  -- Pop one item first, to learn how large items are. Then pop the rest in few pieces, close to the limit of bytes.
  local piece = 1
  if #items > 0 then
    piece = math.min(wanted - taken, math.max(1, math.floor((max_bytes - bytes) / (bytes / #items))))
  end
  local popped = redis.call('LPOP', KEYS[4], piece)
  if not popped or #popped == 0 then break end
  local first_back = #popped + 1
  for i, item in ipairs(popped) do
    local state, size = state_of(item)
    if alone or bytes >= max_bytes or (state == CRASHED_BEFORE and #items + held + held_elsewhere > 0) then
      if state == CRASHED_BEFORE then alone, next_crashed = true, 1 end
      first_back = i
      break
    end
    taken = taken + 1
    if state then
      items[#items + 1], states[#states + 1] = item, state
      bytes = bytes + size
      alone = state == CRASHED_BEFORE
    else
      local foreign = redis.call('HINCRBY', KEYS[17], 'foreign', 1)
      local id = string.format('foreign0%012d', foreign)
      redis.call('HSETNX', KEYS[6], id, item)
      redis.call('ZADD', KEYS[7], now, id)
    end
  end
  requeue_first(popped, first_back)
end
waiting = waiting - taken

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
local limited_ms = 0
if rate then
  allowed_ms = allowed_ms + #items * interval
  redis.call('HSET', KEYS[17], 'rate_ms', string.format('%.3f', allowed_ms))
  if waiting > 0 and allowed <= #items then
    -- Agents come at different times for the next task.
    local pause = fraction_of(ARGV[1] .. ARGV[2]) * math.min(late, interval * (agents - 1))
    limited_ms = math.max(1, math.ceil(allowed_ms - now + pause))
  end
end
if waiting > 0 and not paused and tokens == 0 and limited_ms == 0 then redis.call('LPUSH', KEYS[14], '1') end
if starved and waiting <= half_full then
  redis.call('HDEL', KEYS[17], 'starved')
  if server_tokens == 0 then redis.call('LPUSH', KEYS[15], '1') end
end
-- Heartbeats renew the lease each second too, so a lease that is nearly new needs no write.
if math.abs(lease_ends - now - 0.95 * lease_ms) > 0.05 * lease_ms then
  redis.call('ZADD', KEYS[2], now + lease_ms, ARGV[1])
end
store_answer(KEYS[1], number, string.format('%d', unknown))
return {'ok', unknown, waiting, packed, ARGV[2], elsewhere, next_crashed, limited_ms}
