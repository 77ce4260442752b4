-- Append events to one partition of a source stream, each once.
--
-- KEYS[1] source stream, KEYS[2] offset counter, then per event: its owner key, its seen key
-- ARGV[1] owner TTL (s), then per event: id type v tenant topic user run time data window (s) settled (0|1: the user
--   is the topic's owner, whatever this stream remembers)
-- Returns per event {stream id, offset, duplicate (0|1)}
--
-- A script that fails half-way is not rolled back. So per event what can fail comes first: the reads, then XADD, which
-- fails on a key of the wrong type; only then does the counter move.

local FIELDS = 11
local stream, counter = KEYS[1], KEYS[2]
local owner_ttl = ARGV[1]
local offset = tonumber(redis.call('GET', counter) or '0')
local answers = {}

for i = 1, (#KEYS - 2) / 2 do
  local owner_key, seen_key = KEYS[2 * i + 1], KEYS[2 * i + 2]
  local at = 2 + (i - 1) * FIELDS
  local seen = redis.call('GET', seen_key)
  if seen then
    local id, known = string.match(seen, '^(%S+) (%d+)$')
    answers[i] = { id, tonumber(known), 1 }
  else
    local user = ARGV[at + 5]
    local owner = redis.call('GET', owner_key)
    if owner and ARGV[at + 10] == '0' then user = owner end
    local following = string.format('%.0f', offset + 1)
    local id = redis.call('XADD', stream, '*',
      'id', ARGV[at], 'type', ARGV[at + 1], 'v', ARGV[at + 2], 'tenant', ARGV[at + 3],
      'topic', ARGV[at + 4], 'offset', following, 'user', user, 'run', ARGV[at + 6],
      'time', ARGV[at + 7], 'data', ARGV[at + 8])
    offset = offset + 1
    redis.call('SET', counter, following)
    if user ~= '' then redis.call('SET', owner_key, user, 'EX', owner_ttl) end
    redis.call('SET', seen_key, id .. ' ' .. following, 'EX', ARGV[at + 9])
    answers[i] = { id, offset, 0 }
  end
end

return answers
