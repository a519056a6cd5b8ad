#!lua
-- Take over what others left lying; tell how often each was given out, and how far all is done.
-- KEYS: stream    ARGV: group, consumer, silent ms, from, count
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if groups['err'] then return {'0-0', {}, {}, {}, '0-0', ''} end
local delivered = false
for _, row in ipairs(groups) do
  local group = {}
  for i = 1, #row, 2 do group[row[i]] = row[i + 1] end
  if group['name'] == ARGV[1] then delivered = group['last-delivered-id'] end
end
if not delivered then return {'0-0', {}, {}, {}, '0-0', ''} end
local taken = redis.call('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], 'COUNT', ARGV[5])
local entries, times = {}, {}
for _, row in ipairs(taken[2]) do
  if row and row[1] then
    entries[#entries + 1] = row
    local pending = redis.call('XPENDING', KEYS[1], ARGV[1], row[1], row[1], 1)
    times[#times + 1] = pending[1] and pending[1][4] or 1
  end
end
local oldest = redis.call('XPENDING', KEYS[1], ARGV[1])[2]
return {taken[1], entries, times, taken[3] or {}, delivered, oldest or ''}
