#!lua
-- Everything of a stream up to an id is done: that one number takes the place of the places below.
-- KEYS: done_to, derived    ARGV: stream, ms, seq, {place at or below it}
local known = redis.call('HGET', KEYS[1], ARGV[1])
local to_ms, to_seq = string.match(known or '0-0', '^(%d+)-(%d+)$')
local ms, seq = tonumber(ARGV[2]), tonumber(ARGV[3])
to_ms, to_seq = tonumber(to_ms), tonumber(to_seq)
if not known or ms > to_ms or (ms == to_ms and seq > to_seq) then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. '-' .. ARGV[3])
end
for i = 4, #ARGV do redis.call('SREM', KEYS[2], ARGV[i]) end
return 1
