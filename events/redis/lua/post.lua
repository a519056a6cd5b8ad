#!lua
-- One entry into a slot with many writers, once per `once`; those of the newest posts are kept.
-- KEYS: meta, posted, lane, last
-- ARGV: key, type, data, cause, once, how many of those to keep, replaces the last state (0 or 1)
if redis.call('ZSCORE', KEYS[2], ARGV[5]) then return false end
local meta = redis.call('HMGET', KEYS[1], 'ms', 'seq')
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local ms, seq = tonumber(meta[1] or 0), tonumber(meta[2] or -1)
if now > ms then ms = now; seq = -1 end
local id = string.format('%.0f-%.0f', ms, seq + 1)
if ARGV[4] == '' then
  redis.call('XADD', KEYS[3], id, 'type', ARGV[2], 'key', ARGV[1], 'data', ARGV[3])
else
  redis.call('XADD', KEYS[3], id, 'type', ARGV[2], 'key', ARGV[1], 'data', ARGV[3], 'cause', ARGV[4])
end
redis.call('HSET', KEYS[1], 'ms', string.format('%.0f', ms), 'seq', seq + 1)
if ARGV[7] == '1' then redis.call('HSET', KEYS[4], ARGV[2] .. ':' .. ARGV[1], ARGV[3]) end
redis.call('ZADD', KEYS[2], ms, ARGV[5])
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - tonumber(ARGV[6]))
return id
