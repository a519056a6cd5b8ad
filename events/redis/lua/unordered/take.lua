#!lua
-- New entries for one consumer of a group. A group that somebody removed is made anew where it is
-- known to have come.
-- KEYS: streams of one slot    ARGV: group, consumer, count, {begin}
local command = {'XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[3], 'STREAMS'}
for _, key in ipairs(KEYS) do command[#command + 1] = key end
for _ = 1, #KEYS do command[#command + 1] = '>' end
local found = redis.pcall(unpack(command))
if type(found) == 'table' and found['err'] and string.find(tostring(found['err']), 'NOGROUP', 1, true) then
  for i, key in ipairs(KEYS) do
    local made = redis.pcall('XGROUP', 'CREATE', key, ARGV[1], ARGV[3 + i], 'MKSTREAM')
    if type(made) == 'table' and made['err'] and not string.find(tostring(made['err']), 'BUSYGROUP', 1, true) then
      return made
    end
  end
  return redis.call(unpack(command))
end
return found
