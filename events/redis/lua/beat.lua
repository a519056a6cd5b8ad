#!lua
-- KEYS: meta    ARGV: token, "1" to release
local token = redis.call('HGET', KEYS[1], 'token')
if not token or token ~= ARGV[1] then return 0 end
if ARGV[2] == '1' then
  redis.call('HSET', KEYS[1], 'token', '', 'holder', '')
else
  redis.call('HINCRBY', KEYS[1], 'beat', 1)
end
return 1
