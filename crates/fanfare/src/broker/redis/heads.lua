-- Where the logs of topics are. One that is not known begins here, so that the position told holds when the first message
-- comes, and it is remembered for as long as it is asked for now and then.
-- KEYS: metas. ARGV: session, and a fresh epoch for each.
local heads = {}
for i, key in ipairs(KEYS) do
  local meta = redis.call('GET', key)
  if not meta then
    meta = struct.pack('<c8I8I8I8I8', ARGV[1], 0, 0, 0, 0) .. ARGV[i + 1] .. '\0\0\0\0\0\0\0\0'
    redis.call('SET', key, meta, 'PX', 600000)
  elseif string.sub(meta, 9, 16) == '\0\0\0\0\0\0\0\0' then
    redis.call('PEXPIRE', key, 600000, 'GT')
  end
  heads[i] = meta
end
return heads
