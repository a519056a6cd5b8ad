#!lua
-- Take a task from the token that was seen and give all that is durable of it, in one step, so
-- that nothing can change between owning and loading. A take-over from a holder that did not let
-- go counts as an attempt.
-- KEYS: meta, offsets, state, requests    ARGV: token seen, new token, holder
local token = redis.call('HGET', KEYS[1], 'token') or ''
if token ~= ARGV[1] then return false end
redis.call('HSET', KEYS[1], 'token', ARGV[2], 'holder', ARGV[3])
redis.call('HINCRBY', KEYS[1], 'beat', 1)
if token ~= '' then redis.call('HINCRBY', KEYS[1], 'attempts', 1) end
return {
  redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2]),
  redis.call('HGETALL', KEYS[3]), redis.call('HGETALL', KEYS[4])
}
