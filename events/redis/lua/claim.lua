#!lua
-- Take a slot: only from the token that was seen, so that two who look at once do not both win.
-- The id counter starts behind everything the lanes ever held, whatever became of the counter.
-- KEYS: meta, critical, high, normal, low    ARGV: token seen, new token, holder
local meta = redis.call('HMGET', KEYS[1], 'token', 'ms', 'seq')
if (meta[1] or '') ~= ARGV[1] then return 0 end
local ms, seq = tonumber(meta[2] or 0), tonumber(meta[3] or -1)
for lane = 2, 5 do
  local info = redis.pcall('XINFO', 'STREAM', KEYS[lane])
  if not info['err'] then
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' then
        local last_ms, last_seq = string.match(info[i + 1], '^(%d+)-(%d+)$')
        last_ms, last_seq = tonumber(last_ms), tonumber(last_seq)
        if last_ms > ms then
          ms, seq = last_ms, last_seq
        elseif last_ms == ms and last_seq > seq then
          seq = last_seq
        end
      end
    end
  end
end
redis.call('HSET', KEYS[1], 'token', ARGV[2], 'holder', ARGV[3], 'beat', 0,
  'ms', string.format('%.0f', ms), 'seq', string.format('%.0f', seq))
return 1
