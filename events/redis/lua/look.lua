#!lua
-- Sizes, offsets and spans of a slot at one moment.
-- KEYS: meta, segments, critical, high, normal, low
local function answer(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply['err'] then return nil end
  return reply
end
local function fields(flat)
  local found = {}
  for i = 1, #flat, 2 do found[flat[i]] = flat[i + 1] end
  return found
end
local time = redis.call('TIME')
local info = answer('INFO', 'memory') or ''
-- As maxmemory counts: without what waits for the append-only file or a replica.
local used = tonumber(string.match(info, 'used_memory:(%d+)') or 0)
used = used - tonumber(string.match(info, 'mem_not_counted_for_evict:(%d+)') or 0)
local lanes = {}
for k = 3, 6 do
  local stream = answer('XINFO', 'STREAM', KEYS[k])
  if stream then
    local facts = fields(stream)
    local first = redis.call('XRANGE', KEYS[k], '-', '+', 'COUNT', 1)[1]
    local groups = {}
    for _, row in ipairs(redis.call('XINFO', 'GROUPS', KEYS[k])) do
      local group = fields(row)
      local need = group['last-delivered-id']
      if tonumber(group['pending'] or 0) > 0 then
        need = redis.call('XPENDING', KEYS[k], group['name'])[2] or need
      end
      groups[#groups + 1] = group['name']
      groups[#groups + 1] = need
    end
    lanes[#lanes + 1] = {
      facts['length'], facts['entries-added'] or facts['length'], first and first[1] or '',
      facts['last-generated-id'], answer('MEMORY', 'USAGE', KEYS[k]) or 0, groups
    }
  else
    lanes[#lanes + 1] = {0, 0, '', '0-0', 0, {}}
  end
end
return {
  time[1], time[2], string.format('%.0f', used),
  string.match(info, 'maxmemory:(%d+)') or '0', redis.call('HGET', KEYS[1], 'full') or '',
  redis.call('HGET', KEYS[1], 'full_above') or '0',
  redis.call('HVALS', KEYS[2]), lanes
}
