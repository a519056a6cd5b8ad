#!lua
-- Put a task back to what it was, in one step: the lanes and the journal without what came after
-- lie ready beside the old ones, and take their places here.
-- KEYS: meta, offsets, state, last, journal, 4 lanes, their 5 replacements (journal first), then
--       keys to delete
-- ARGV: token, ms and seq of the newest output, commits, version,
--       5 flags (which of journal and lanes are replaced),
--       number of offsets, of state entries, of last states to forget,
--       {stream, offset}, {key, value}, {type:key}
if (redis.call('HGET', KEYS[1], 'token') or '') ~= ARGV[1] then return 0 end
local offsets, state, forget = tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13])
redis.call('DEL', KEYS[2], KEYS[3])
local at = 14
for _ = 1, offsets do
  redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1])
  at = at + 2
end
for _ = 1, state do
  redis.call('HSET', KEYS[3], ARGV[at], ARGV[at + 1])
  at = at + 2
end
for _ = 1, forget do
  redis.call('HDEL', KEYS[4], ARGV[at])
  at = at + 1
end
for i = 0, 4 do
  if ARGV[6 + i] == '1' then redis.call('RENAME', KEYS[10 + i], KEYS[5 + i]) end
end
for i = 15, #KEYS do redis.call('DEL', KEYS[i]) end
redis.call('HSET', KEYS[1], 'token', '', 'holder', '', 'ms', ARGV[2], 'seq', ARGV[3],
  'commits', ARGV[4], 'version', ARGV[5], 'attempts', 0, 'trying', '', 'halted', '')
redis.call('HINCRBY', KEYS[1], 'beat', 1)
return 1
