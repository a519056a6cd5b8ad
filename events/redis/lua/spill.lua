#!lua
-- Register a span whose file is on disk, and remove its entries, in one step: at any moment an
-- entry is in the stream or in a registered span.
-- KEYS: stream, segments, spilled
-- ARGV: lane, first, last, the first id that stays, number of entries, record
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
if not first or first[1] ~= ARGV[2] then return 0 end
if #redis.call('XRANGE', KEYS[1], ARGV[3], ARGV[3]) == 0 then return 0 end
redis.call('HSET', KEYS[2], ARGV[1] .. ':' .. ARGV[2] .. ':' .. ARGV[3], ARGV[6])
redis.call('HSET', KEYS[3], ARGV[1], ARGV[3])
if redis.call('XTRIM', KEYS[1], 'MINID', ARGV[4]) ~= tonumber(ARGV[5]) then return 2 end
return 1
