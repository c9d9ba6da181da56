-- Changes a cell if it is as expected.
-- KEYS: cells, and their names in order. ARGV: name, expected revision ('' for none), and a value to write or none to delete.
local cell = redis.call('HGET', KEYS[1], ARGV[1])
local revision = cell and struct.unpack('<I8', cell) or nil
local expected = ARGV[2] ~= '' and tonumber(ARGV[2]) or nil
if revision ~= expected then return { 0, cell } end
if not ARGV[3] then
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
  return { 1, revision }
end
local time = redis.call('TIME')
local next = math.max((revision or 0) + 1, time[1] * 1000000 + time[2])
redis.call('HSET', KEYS[1], ARGV[1], struct.pack('<I8', next) .. ARGV[3])
redis.call('ZADD', KEYS[2], 0, ARGV[1])
return { 1, next }
