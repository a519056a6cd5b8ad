#!lua
-- What is on a consumer's list, without counting it as given out once more.
-- KEYS: streams of one slot    ARGV: group, consumer, count
local found = {}
for _, key in ipairs(KEYS) do
  local mine = redis.pcall('XPENDING', key, ARGV[1], '-', '+', ARGV[3], ARGV[2])
  local entries, lost = {}, {}
  if not mine['err'] then
    for _, row in ipairs(mine) do
      local entry = redis.call('XRANGE', key, row[1], row[1])[1]
      if entry then
        entries[#entries + 1] = entry
        redis.call('XCLAIM', key, ARGV[1], ARGV[2], 0, row[1], 'JUSTID')
      else
        lost[#lost + 1] = row[1]
        redis.call('XACK', key, ARGV[1], row[1])
      end
    end
  end
  found[#found + 1] = {entries, lost}
end
return found
