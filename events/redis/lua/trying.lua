#!lua
-- KEYS: meta    ARGV: token, text
if (redis.call('HGET', KEYS[1], 'token') or '') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'trying', ARGV[2])
return 1
