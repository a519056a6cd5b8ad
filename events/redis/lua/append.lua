#!lua
-- Append in order and move cursors, all or nothing: every check stands before the first write.
-- KEYS: meta, cursors, last, critical, high, normal, low
-- ARGV: token, number of cursors, {feed, expected, new}, {lane, type, key, data, cause, has_last, last}
local meta = redis.call('HMGET', KEYS[1], 'token', 'ms', 'seq', 'full', 'full_above')
if not meta[1] or meta[1] == '' or meta[1] ~= ARGV[1] then return {'fenced'} end
if meta[4] and meta[4] ~= '' then -- memory is short: how short is asked only then
  local info = redis.pcall('INFO', 'memory')
  if type(info) ~= 'string' then info = '' end
  local used = tonumber(string.match(info, 'used_memory:(%d+)') or 0)
  used = used - tonumber(string.match(info, 'mem_not_counted_for_evict:(%d+)') or 0)
  if used >= tonumber(meta[5] or 0) then return {'full', meta[4]} end
end
local cursors = tonumber(ARGV[2])
for i = 0, cursors - 1 do
  local feed = ARGV[3 + i * 3]
  local found = redis.call('HGET', KEYS[2], feed) or ''
  if found ~= ARGV[4 + i * 3] then return {'stale', feed, ARGV[4 + i * 3], found} end
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local ms, seq = tonumber(meta[2]), tonumber(meta[3])
if now > ms then ms = now; seq = -1 end
local first = seq + 1
local at = 3 + cursors * 3
while at < #ARGV do
  seq = seq + 1
  local lane, id = KEYS[4 + tonumber(ARGV[at])], string.format('%.0f-%.0f', ms, seq)
  if ARGV[at + 4] == '' then
    redis.call('XADD', lane, id, 'type', ARGV[at + 1], 'key', ARGV[at + 2], 'data', ARGV[at + 3])
  else
    redis.call('XADD', lane, id, 'type', ARGV[at + 1], 'key', ARGV[at + 2], 'data', ARGV[at + 3],
      'cause', ARGV[at + 4])
  end
  if ARGV[at + 5] == '1' then
    redis.call('HSET', KEYS[3], ARGV[at + 1] .. ':' .. ARGV[at + 2], ARGV[at + 6])
  end
  at = at + 7
end
if seq >= first then redis.call('HSET', KEYS[1], 'ms', string.format('%.0f', ms), 'seq', seq) end
local newest = string.format('%.0f-%.0f', ms, math.max(seq, 0))
for i = 0, cursors - 1 do
  redis.call('HSET', KEYS[2], ARGV[3 + i * 3], ARGV[5 + i * 3] .. '@' .. newest)
end
return {'ok', string.format('%.0f', ms), string.format('%.0f', first), newest}
