-- What of a topic's log a reader gets: the meta, whether it is recovered, and entries by their id and envelope. One that is not
-- known begins here, so that the position told holds when the first message comes.
-- KEYS: stream, meta. ARGV: session, a fresh epoch, what is wanted, packed.
local now, since, epoch, from, limit, page, newest, count, bytes, age = struct.unpack('<I8Bc8I8I8I8I8I8I8I8', ARGV[3])
local meta = redis.call('GET', KEYS[2])
if not meta then
  meta = struct.pack('<c8I8I8I8I8', ARGV[1], 0, 0, 0, 0) .. ARGV[2] .. '\0\0\0\0\0\0\0\0'
  redis.call('SET', KEYS[2], meta, 'PX', 600000)
end
local _, head, total = struct.unpack('<c8I8I8', meta)

local function range(first, most)
  return redis.call('XRANGE', KEYS[1], first, '+', 'COUNT', most)
end

-- Within the bounds, exactly: the stream may have more.
local function is_kept(entry)
  local at, ms = string.match(entry[1], '^(%d+)-(%d+)$')
  return at + count > head and ms + age > now and (total - entry[2][4] <= bytes or tonumber(at) == head)
end

local function epoch_at(offset)
  for i = #meta - 15, 41, -16 do
    local its_epoch, first = struct.unpack('<c8I8', meta, i)
    if first <= offset then return its_epoch end
  end
end

local recovered = true
if since == 1 then
  from = 0
elseif since == 2 then
  recovered = from <= head and epoch_at(from) == epoch
end
if since ~= 0 and recovered and from < head then
  local entry = range(from + 1, 1)[1]
  recovered = entry ~= nil and string.match(entry[1], '^(%d+)-') + 0 == from + 1 and is_kept(entry)
end

local answer = { meta, recovered and 1 or 0 }
if since == 0 or not recovered then
  from = math.max(head - math.min(newest, count), 0)
  limit, page = newest, math.huge
end
local taken, size = 0, 0
while taken < limit do
  local entries = range(from + 1, math.min(16, limit - taken))
  if #entries == 0 then break end
  for _, entry in ipairs(entries) do
    from = string.match(entry[1], '^%d+') + 0
    if is_kept(entry) then
      size = size + #entry[2][2]
      if taken > 0 and size > page then return answer end
      taken = taken + 1
      answer[#answer + 1] = entry[1]
      answer[#answer + 1] = entry[2][2]
    end
  end
end
return answer
