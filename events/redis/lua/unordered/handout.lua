#!lua
-- Make a group's list in streams of one slot, unless it is there.
-- KEYS: streams    ARGV: group, {begin}
for i, key in ipairs(KEYS) do
  local command = {'XGROUP', 'CREATE', key, ARGV[1], ARGV[1 + i], 'MKSTREAM'}
  if ARGV[1 + i] == '0-0' then command[7] = 'ENTRIESREAD'; command[8] = '0' end
  local made = redis.pcall(unpack(command))
  if type(made) == 'table' and made['err'] and not string.find(tostring(made['err']), 'BUSYGROUP', 1, true) then
    return made
  end
end
return 1
