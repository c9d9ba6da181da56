-- The next cells of those whose names begin so, by name and cell. KEYS: cells, and their names in order. ARGV: from, to, how many.
local names = redis.call('ZRANGEBYLEX', KEYS[2], ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])
local answer = {}
for _, name in ipairs(names) do
  answer[#answer + 1] = name
  answer[#answer + 1] = redis.call('HGET', KEYS[1], name) or ''
end
return answer
