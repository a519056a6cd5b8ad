#!lua
-- Forget consumers that have nothing on their list: the one that ends, and the long silent.
-- KEYS: stream    ARGV: group, consumer that ends, silent ms
local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
if consumers['err'] then return 0 end
local gone = 0
for _, row in ipairs(consumers) do
  local one = {}
  for i = 1, #row, 2 do one[row[i]] = row[i + 1] end
  local idle = tonumber(one['idle'] or 0)
  if tonumber(one['pending']) == 0 and (one['name'] == ARGV[2] or idle > tonumber(ARGV[3])) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], one['name'])
    gone = gone + 1
  end
end
return gone
