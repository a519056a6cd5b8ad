#!lua
-- Clear an account's latch if it is still the one that was seen.
-- KEYS: latches    ARGV: login, latch id      returns 1: there is none now, 0: another one is set
local found = redis.call('HGET', KEYS[1], ARGV[1] .. ':id')
if found and found ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1], ARGV[1] .. ':id')
return 1
