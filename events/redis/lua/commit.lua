#!lua
-- One step of a task, all or nothing: three guards that do not depend on each other (token,
-- offsets, output ids), and only then the first write.
-- KEYS: meta, offsets, state, last, journal, requests, critical, high, normal, low,
--       and with a snapshot: its meta, offsets, state
-- ARGV: token, newest ms, newest seq, version, halted, has_journal, journal, has_snapshot,
--       journal_from, number of offsets, of changed, of removed, of answered, of outputs,
--       {stream, expected, new}, {key, value}, {key}, {request},
--       {lane, ms, seq, type, key, data, cause, has_last, last}
local meta = redis.call('HMGET', KEYS[1], 'token', 'ms', 'seq', 'commits')
if not meta[1] or meta[1] == '' or meta[1] ~= ARGV[1] then return {'fenced'} end
local moves, changed, removed = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])
local answered, outputs = tonumber(ARGV[13]), tonumber(ARGV[14])
for i = 0, moves - 1 do
  local at = 15 + i * 3
  local found = redis.call('HGET', KEYS[2], ARGV[at]) or '0-0:0:0'
  if found ~= ARGV[at + 1] then return {'stale', ARGV[at], ARGV[at + 1], found} end
end
local first_changed = 15 + moves * 3
local first_removed = first_changed + changed * 2
local first_answered = first_removed + removed
local first_output = first_answered + answered
if outputs > 0 then
  local newest = (meta[2] or '0') .. '-' .. (meta[3] or '0')
  if newest ~= ARGV[2] .. '-' .. ARGV[3] then return {'output', ARGV[2] .. '-' .. ARGV[3], newest} end
  local seen = {}
  for i = 0, outputs - 1 do
    local at = first_output + i * 9
    local lane = KEYS[7 + tonumber(ARGV[at])]
    if not seen[lane] then
      seen[lane] = true
      local info = redis.pcall('XINFO', 'STREAM', lane)
      if not info['err'] then
        for f = 1, #info, 2 do
          if info[f] == 'last-generated-id' then
            local ms, seq = string.match(info[f + 1], '^(%d+)-(%d+)$')
            local new_ms, new_seq = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
            if tonumber(ms) > new_ms or (tonumber(ms) == new_ms and tonumber(seq) >= new_seq) then
              return {'output', ARGV[at + 1] .. '-' .. ARGV[at + 2], info[f + 1]}
            end
          end
        end
      end
    end
  end
end
for i = 0, changed - 1 do
  redis.call('HSET', KEYS[3], ARGV[first_changed + i * 2], ARGV[first_changed + i * 2 + 1])
end
for i = 0, removed - 1 do redis.call('HDEL', KEYS[3], ARGV[first_removed + i]) end
for i = 0, answered - 1 do redis.call('HDEL', KEYS[6], ARGV[first_answered + i]) end
for i = 0, outputs - 1 do
  local at = first_output + i * 9
  local lane, id = KEYS[7 + tonumber(ARGV[at])], ARGV[at + 1] .. '-' .. ARGV[at + 2]
  if ARGV[at + 6] == '' then
    redis.call('XADD', lane, id, 'type', ARGV[at + 3], 'key', ARGV[at + 4], 'data', ARGV[at + 5])
  else
    redis.call('XADD', lane, id, 'type', ARGV[at + 3], 'key', ARGV[at + 4], 'data', ARGV[at + 5],
      'cause', ARGV[at + 6])
  end
  if ARGV[at + 7] == '1' then
    redis.call('HSET', KEYS[4], ARGV[at + 3] .. ':' .. ARGV[at + 4], ARGV[at + 8])
  end
  if i == outputs - 1 then redis.call('HSET', KEYS[1], 'ms', ARGV[at + 1], 'seq', ARGV[at + 2]) end
end
local commits = tonumber(meta[4] or 0) + 1
redis.call('HSET', KEYS[1], 'commits', string.format('%.0f', commits), 'attempts', 0, 'trying', '',
  'version', ARGV[4], 'halted', ARGV[5])
redis.call('HINCRBY', KEYS[1], 'beat', 1)
if ARGV[6] == '1' then
  redis.call('XADD', KEYS[5], string.format('%.0f-1', commits), 'data', ARGV[7])
end
for i = 0, moves - 1 do redis.call('HSET', KEYS[2], ARGV[15 + i * 3], ARGV[17 + i * 3]) end
if ARGV[8] == '1' then
  redis.call('DEL', KEYS[11], KEYS[12], KEYS[13])
  for copied = 2, 3 do -- not COPY: the stand-in for Redis would let both share one hash
    local all = redis.call('HGETALL', KEYS[copied])
    for f = 1, #all, 2 do redis.call('HSET', KEYS[copied + 10], all[f], all[f + 1]) end
  end
  local now = redis.call('HMGET', KEYS[1], 'ms', 'seq')
  redis.call('HSET', KEYS[11], 'commits', string.format('%.0f', commits), 'version', ARGV[4],
    'ms', now[1] or '0', 'seq', now[2] or '0')
  if ARGV[9] ~= '0' then redis.call('XTRIM', KEYS[5], 'MINID', ARGV[9] .. '-0') end
end
return {'ok'}
