#!lua
-- Remove what lies below an id, but nothing that a group of the stream still needs: the entry at
-- its offset and everything after it, and everything it was given and has not acknowledged.
-- KEYS: stream, segments, spilled
-- ARGV: lane, ms, seq, most to remove at once, readers that must have a group
local function parsed(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if groups['err'] then return {0, 0, {}} end
local ms, seq = tonumber(ARGV[2]), tonumber(ARGV[3])
local known = {}
for _, row in ipairs(groups) do
  local group = {}
  for i = 1, #row, 2 do group[row[i]] = row[i + 1] end
  known[group['name']] = true
  local need = group['last-delivered-id']
  if tonumber(group['pending'] or 0) > 0 then
    need = redis.call('XPENDING', KEYS[1], group['name'])[2] or need
  end
  local need_ms, need_seq = parsed(need)
  if need_ms < ms or (need_ms == ms and need_seq < seq) then ms, seq = need_ms, need_seq end
end
for i = 5, #ARGV do
  if not known[ARGV[i]] then return {0, 0, {}} end
end
local below = string.format('%.0f-%.0f', ms, seq)
local gone, stay = {}, 0
local names = redis.call('HKEYS', KEYS[2])
for _, name in ipairs(names) do -- LANE:FIRST:LAST
  local lane, last = string.match(name, '^(%d):[%d-]+:([%d-]+)$')
  if lane == ARGV[1] then
    local last_ms, last_seq = parsed(last)
    if last_ms < ms or (last_ms == ms and last_seq < seq) then
      gone[#gone + 1] = redis.call('HGET', KEYS[2], name)
      redis.call('HDEL', KEYS[2], name)
    else
      stay = stay + 1
    end
  end
end
if stay == 0 then redis.call('HDEL', KEYS[3], ARGV[1]) end
local most = tonumber(ARGV[4])
local removed = redis.call('XTRIM', KEYS[1], 'MINID', '~', below, 'LIMIT', most)
if removed >= most then return {removed, 1, gone} end
return {removed + redis.call('XTRIM', KEYS[1], 'MINID', below), 0, gone}
