-- Ask agents to cancel a task that they run, and wake them.
-- KEYS[1] actor's record   HASH
-- KEYS[2] desired_cancels (`wish:cancel`)  HASH actor -> the requests of the last minute, one line each
-- KEYS[3..] device tokens  LIST of each agent to wake
-- ARGV[1] number  ARGV[2] the request  ARGV[3] how long a request is kept, in ms  ARGV[4..] the agents' actors
-- Returns {'ok'} | {'again', ''} | {'lost'} | {'stale'}
-- Law: a command writes state, and a lost token only delays it (4).

local number = tonumber(ARGV[1])
local refused = check_number(KEYS[1], number)
if refused then return refused end
local now, keep_ms = now_ms(), tonumber(ARGV[3])
local requests = {}
for i = 4, #ARGV do
  local kept = {}
  for line in string.gmatch(redis.call('HGET', KEYS[2], ARGV[i]) or '', '[^\n]+') do
    if (tonumber(string.sub(line, 1, 13)) or 0) > now - keep_ms then kept[#kept + 1] = line end
  end
  kept[#kept + 1] = string.format('%013d', now) .. ' ' .. ARGV[2]
  requests[#requests + 1] = ARGV[i]
  requests[#requests + 1] = table.concat(kept, '\n')
end
local without_token = {}
for i = 3, #KEYS do
  if redis.call('LLEN', KEYS[i]) == 0 then without_token[#without_token + 1] = KEYS[i] end
end
for i = 1, #requests, 2 do redis.call('HSET', KEYS[2], requests[i], requests[i + 1]) end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
for _, token in ipairs(without_token) do
  redis.call('LPUSH', token, '1')
  redis.call('PEXPIRE', token, 60000)
end
store_answer(KEYS[1], number, '')
return {'ok'}
