-- Adds messages to the log of a topic and gives them to the nodes that are attached to it: all or nothing.
-- KEYS: stream, meta, and with an idempotency key the newer and the older keys.
-- ARGV: what holds for all, packed; the live channel; with KEYS[3] the idempotency key; the envelopes.
-- A script that fails half-way is not rolled back: whatever can fail, fails before the first write or in it.
local session, fresh, now, count, bytes, age, expects, expected_epoch, expected_offset =
  struct.unpack('<c8c8I8I8I8I8Bc8I8', ARGV[1])
local keyed = KEYS[3] ~= nil
local first_envelope = keyed and 4 or 3

if keyed then
  local seen = redis.call('HGET', KEYS[3], ARGV[3]) or redis.call('HGET', KEYS[4], ARGV[3])
  if seen then return 'R' .. seen end
end

-- Meta: session, offset, bytes so far, bytes at the last check, when the stream's expiry is to be renewed; then the epochs,
-- each with its first offset, the oldest first.
local meta = redis.call('GET', KEYS[2])
local last_session, offset, total, checked, renew, epochs, epoch
if meta then
  last_session, offset, total, checked, renew = struct.unpack('<c8I8I8I8I8', meta)
  epochs, epoch = string.sub(meta, 41), string.sub(meta, -16, -9)
else
  last_session, offset, total, checked, renew = session, 0, 0, 0, 0
  epochs, epoch = fresh .. '\0\0\0\0\0\0\0\0', fresh
end

if (expects == 1 and offset ~= 0) or (expects == 2 and (expected_epoch ~= epoch or expected_offset ~= offset)) then
  if not meta then
    -- So that the position in the answer holds.
    redis.call('SET', KEYS[2], struct.pack('<c8I8I8I8I8', session, 0, 0, 0, 0) .. epochs, 'PX', 600000)
  end
  return 'C' .. epoch .. struct.pack('<I8', offset)
end

local epoch_before, offset_before = epoch, offset
if not meta then
  local kind = redis.call('TYPE', KEYS[1]).ok
  if kind ~= 'stream' and kind ~= 'none' then
    return redis.error_reply('WRONGTYPE ' .. KEYS[1] .. ' is a ' .. kind .. ' of other software: choose another namespace')
  end
  redis.call('DEL', KEYS[1])
elseif last_session ~= session then
  epochs, epoch = epochs .. fresh .. struct.pack('<I8', offset + 1), fresh
  if #epochs > 128 then epochs = string.sub(epochs, -128) end
end

for i = first_envelope, #ARGV do
  offset = offset + 1
  redis.call('XADD', KEYS[1], offset .. '-' .. now, 'd', ARGV[i], 'c', total)
  total = total + #ARGV[i]
end

if math.floor(offset / 16) ~= math.floor(offset_before / 16) then
  redis.call('XTRIM', KEYS[1], 'MAXLEN', count)
end
if total - checked > bytes / 8 then
  checked = total
  -- From the oldest, by few where they are large, so that only what goes is looked at.
  local step = 1
  for _ = 1, 64 do
    local entries = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', step)
    local size, keep = 0, nil
    for i, entry in ipairs(entries) do
      local at, ms = string.match(entry[1], '^(%d+)-(%d+)$')
      if tonumber(at) == offset or (total - entry[2][4] <= bytes and ms + age > now) then
        keep = i
        break
      end
      size = size + #entry[2][2]
    end
    if keep == 1 or #entries == 0 then break end
    if keep then
      redis.call('XTRIM', KEYS[1], 'MINID', entries[keep][1])
      break
    end
    redis.call('XTRIM', KEYS[1], 'MINID', string.match(entries[#entries][1], '^%d+') + 1)
    if size < 16384 and step < 16 then step = step * 2 end
  end
end
if now >= renew or renew - now > age then
  redis.call('PEXPIRE', KEYS[1], math.ceil(age * 1.25))
  renew = now + math.floor(age / 4)
end

redis.call('SET', KEYS[2], struct.pack('<c8I8I8I8I8', session, offset, total, checked, renew) .. epochs, 'PX', age + 86400000)

if keyed then
  -- The field without a name says since when the newer keys are the newer ones. They are its 1,024 or those of five minutes.
  local since = redis.call('HGET', KEYS[3], '')
  if since and (now - since >= 300000 or redis.call('HLEN', KEYS[3]) > 1024) then
    redis.call('RENAME', KEYS[3], KEYS[4])
    redis.call('PEXPIRE', KEYS[4], 300000)
    since = false
  end
  redis.call('HSET', KEYS[3], ARGV[3], epoch .. struct.pack('<I8', offset))
  if not since then
    redis.call('HSET', KEYS[3], '', now)
    redis.call('PEXPIRE', KEYS[3], 600000)
  end
end

-- The stamp: flags, epoch and offset of the first message, the epoch before if it is another one; then the envelope, or
-- several with their lengths.
local flags = 128
local before = ''
if epoch_before ~= epoch then
  flags, before = flags + 1, epoch_before
end
local content = ARGV[first_envelope]
if #ARGV > first_envelope then
  flags = flags + 2
  content = {}
  for i = first_envelope, #ARGV do
    content[#content + 1] = struct.pack('<I4', #ARGV[i])
    content[#content + 1] = ARGV[i]
  end
  content = table.concat(content)
end
redis.call('SPUBLISH', ARGV[2], struct.pack('<Bc8I8', flags, epoch, offset_before + 1) .. before .. content)
return 'N' .. epoch .. struct.pack('<I8', offset) .. epoch_before
