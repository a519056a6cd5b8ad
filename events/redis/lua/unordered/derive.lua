#!lua
-- Outputs of entries into a group's slot, once per place: a place is done when it is remembered,
-- or lies where everything is done. Ids are drawn here, for there are many writers.
-- KEYS: meta, done_to, derived, last, critical, high, normal, low
-- ARGV: number of entries, {stream, ms, seq, number of outputs,
--       {lane, type, key, data, cause, has_last, last}}
local meta = redis.call('HMGET', KEYS[1], 'ms', 'seq')
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local ms, seq = tonumber(meta[1] or 0), tonumber(meta[2] or -1)
if now > ms then ms = now; seq = -1 end
local at, new, drawn = 2, 0, false
for _ = 1, tonumber(ARGV[1]) do
  local stream, entry_ms, entry_seq = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local outputs = tonumber(ARGV[at + 3])
  local place = stream .. '@' .. ARGV[at + 1] .. '-' .. ARGV[at + 2]
  at = at + 4
  local done = redis.call('SISMEMBER', KEYS[3], place) == 1
  local to_ms, to_seq = string.match(redis.call('HGET', KEYS[2], stream) or '', '^(%d+)-(%d+)$')
  if to_ms then
    to_ms, to_seq = tonumber(to_ms), tonumber(to_seq)
    done = done or entry_ms < to_ms or (entry_ms == to_ms and entry_seq <= to_seq)
  end
  if not done then
    new = new + 1
    redis.call('SADD', KEYS[3], place)
  end
  for _ = 1, outputs do
    if not done then
      seq = seq + 1
      drawn = true
      local lane, id = KEYS[5 + tonumber(ARGV[at])], string.format('%.0f-%.0f', ms, seq)
      if ARGV[at + 4] == '' then
        redis.call('XADD', lane, id, 'type', ARGV[at + 1], 'key', ARGV[at + 2], 'data', ARGV[at + 3])
      else
        redis.call('XADD', lane, id, 'type', ARGV[at + 1], 'key', ARGV[at + 2], 'data', ARGV[at + 3],
          'cause', ARGV[at + 4])
      end
      if ARGV[at + 5] == '1' then
        redis.call('HSET', KEYS[4], ARGV[at + 1] .. ':' .. ARGV[at + 2], ARGV[at + 6])
      end
    end
    at = at + 7
  end
end
if drawn then
  redis.call('HSET', KEYS[1], 'ms', string.format('%.0f', ms), 'seq', string.format('%.0f', seq))
end
return new
