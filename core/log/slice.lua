-- Write a stretch of another log's entries into one source stream partition, under the stream ids they had.
--
-- KEYS[1] source stream, KEYS[2] offset counter, then per entry the owner key of its topic
-- ARGV[1] owner TTL (s), then per entry: its stream id, its user or '', how many values follow, and these: the names and
--   values of its fields in turn
-- Returns the offset of the last one
--
-- Offsets count on from what the counter has. The ids rise, so what can fail is the first XADD: then nothing is written.
-- A call whose reply was lost comes again: its entries stand there already, and are left alone.

local stream, counter, owner_ttl = KEYS[1], KEYS[2], ARGV[1]
local offset = tonumber(redis.call('GET', counter) or '0')

local function event_of(fields)
  for i = 1, #fields, 2 do
    if fields[i] == 'id' then return fields[i + 1] end
  end
end

local at, first = 2, true
for i = 3, #KEYS do
  local id, user, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local fields = {}
  for j = 1, count do fields[j] = ARGV[at + 2 + j] end
  at = at + 3 + count
  local following = string.format('%.0f', offset + 1)
  for j = 1, count, 2 do
    if fields[j] == 'offset' then fields[j + 1] = following end
  end
  if first then
    local there = redis.call('XRANGE', stream, id, id)[1]
    if there and event_of(there[2]) == event_of(fields) then return offset end
    first = false
  end
  redis.call('XADD', stream, id, unpack(fields))
  offset = offset + 1
  redis.call('SET', counter, following)
  if user ~= '' then redis.call('SET', KEYS[i], user, 'EX', owner_ttl) end
end
return offset
