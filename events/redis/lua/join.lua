#!lua
-- Give a reader its group in streams of one slot, at their beginning, so that from now on nothing
-- it has not read is trimmed. A group that is there stays where it is.
-- KEYS: streams    ARGV: reader
for _, stream in ipairs(KEYS) do
  local done = redis.pcall('XGROUP', 'CREATE', stream, ARGV[1], '0', 'MKSTREAM', 'ENTRIESREAD', 0)
  if type(done) == 'table' and done['err'] and not string.find(tostring(done['err']), 'BUSYGROUP', 1, true) then
    return done
  end
end
return 1
