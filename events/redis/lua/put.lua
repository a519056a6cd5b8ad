#!lua
-- Entries at the ids they had elsewhere, all or nothing. Ids must rise, and lie behind the newest.
-- KEYS: meta, last, critical, high, normal, low
-- ARGV: token, {lane, ms, seq, type, key, data, cause, has_last, last}
local meta = redis.call('HMGET', KEYS[1], 'token', 'ms', 'seq', 'full', 'full_above')
if not meta[1] or meta[1] == '' or meta[1] ~= ARGV[1] then return {'fenced'} end
if meta[4] and meta[4] ~= '' then -- memory is short: how short is asked only then
  local info = redis.pcall('INFO', 'memory')
  if type(info) ~= 'string' then info = '' end
  local used = tonumber(string.match(info, 'used_memory:(%d+)') or 0)
  used = used - tonumber(string.match(info, 'mem_not_counted_for_evict:(%d+)') or 0)
  if used >= tonumber(meta[5] or 0) then return {'full', meta[4]} end
end
local ms, seq = tonumber(meta[2] or 0), tonumber(meta[3] or -1)
for at = 2, #ARGV, 9 do
  local new_ms, new_seq = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  if new_ms < ms or (new_ms == ms and new_seq <= seq) then
    return {'behind', string.format('%.0f-%.0f', ms, seq)}
  end
  ms, seq = new_ms, new_seq
end
for at = 2, #ARGV, 9 do
  local lane = KEYS[3 + tonumber(ARGV[at])]
  local id = ARGV[at + 1] .. '-' .. ARGV[at + 2]
  if ARGV[at + 6] == '' then
    redis.call('XADD', lane, id, 'type', ARGV[at + 3], 'key', ARGV[at + 4], 'data', ARGV[at + 5])
  else
    redis.call('XADD', lane, id, 'type', ARGV[at + 3], 'key', ARGV[at + 4], 'data', ARGV[at + 5],
      'cause', ARGV[at + 6])
  end
  if ARGV[at + 7] == '1' then
    redis.call('HSET', KEYS[2], ARGV[at + 3] .. ':' .. ARGV[at + 4], ARGV[at + 8])
  end
end
redis.call('HSET', KEYS[1], 'ms', string.format('%.0f', ms), 'seq', string.format('%.0f', seq))
return {'ok'}
