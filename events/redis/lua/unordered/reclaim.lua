#!lua
-- Take over what others left lying: all that were given out once, and one of those that were given
-- out more often, so that an entry which kills does not drag others along. Tells how often each
-- was given out, and how far everything is done.
-- KEYS: stream    ARGV: group, consumer, silent ms, count
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if groups['err'] then return {{}, {}, {}, '0-0', ''} end
local delivered = false
for _, row in ipairs(groups) do
  local group = {}
  for i = 1, #row, 2 do group[row[i]] = row[i + 1] end
  if group['name'] == ARGV[1] then delivered = group['last-delivered-id'] end
end
if not delivered then return {{}, {}, {}, '0-0', ''} end
local silent = redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], '-', '+', ARGV[4])
local entries, times, lost, suspects = {}, {}, {}, 0
for _, row in ipairs(silent) do
  local id, given = row[1], tonumber(row[4])
  if #redis.call('XRANGE', KEYS[1], id, id) == 0 then
    lost[#lost + 1] = id
    redis.call('XACK', KEYS[1], ARGV[1], id)
  elseif given < 2 or suspects == 0 then
    if given > 1 then suspects = 1 end
    local taken = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], id)
    if taken[1] then
      entries[#entries + 1] = taken[1]
      times[#times + 1] = given + 1
    end
  end
end
local oldest = redis.call('XPENDING', KEYS[1], ARGV[1])[2]
return {entries, times, lost, delivered, oldest or ''}
