-- Append events to one partition of a source stream, each once.
--
-- KEYS[1] source stream, KEYS[2] offset counter, then per event: its owner key, its seen key
-- ARGV[1] owner TTL (s), [2] name of this call, then per event: id type v tenant topic user run time data window (s)
--   settled (0|1: the user is the topic's owner, whatever this stream remembers)
-- Returns per event {stream id, offset, duplicate (0|1)}, or {error} where a key of its own has the wrong type
--
-- A call whose reply was lost comes again under the same name: what it appended then is no duplicate now. The same id
-- twice within one call is.
--
-- A script that fails half-way is not rolled back. So per event what can fail comes first: the reads, then XADD, which
-- fails on a key of the wrong type; only then does the counter move. A failing XADD ends the call: it is the stream's
-- fault or Redis's (a replica, no memory), and the client knows which errors to try again.

local FIELDS = 11
local stream, counter = KEYS[1], KEYS[2]
local owner_ttl, name = ARGV[1], ARGV[2]
local offset = tonumber(redis.call('GET', counter) or '0')
local met = {}

local function append(at, owner_key, seen_key)
  local seen, owner = redis.pcall('GET', seen_key), redis.pcall('GET', owner_key)
  local wrong = type(seen) == 'table' and seen or type(owner) == 'table' and owner
  if wrong then return { wrong.err } end
  if seen then
    local id, known, by = string.match(seen, '^(%S+) (%d+) ?(%S*)$')
    local duplicate = (met[seen_key] or by ~= name) and 1 or 0
    met[seen_key] = true
    return { id, tonumber(known), duplicate }
  end
  local user = ARGV[at + 5]
  if owner and ARGV[at + 10] == '0' then user = owner end
  local following = string.format('%.0f', offset + 1)
  local id = redis.call('XADD', stream, '*',
    'id', ARGV[at], 'type', ARGV[at + 1], 'v', ARGV[at + 2], 'tenant', ARGV[at + 3],
    'topic', ARGV[at + 4], 'offset', following, 'user', user, 'run', ARGV[at + 6],
    'time', ARGV[at + 7], 'data', ARGV[at + 8])
  offset = offset + 1
  redis.call('SET', counter, following)
  if user ~= '' then redis.call('SET', owner_key, user, 'EX', owner_ttl) end
  redis.call('SET', seen_key, id .. ' ' .. following .. ' ' .. name, 'EX', ARGV[at + 9])
  met[seen_key] = true
  return { id, offset, 0 }
end

local answers = {}
for i = 1, (#KEYS - 2) / 2 do
  answers[i] = append(3 + (i - 1) * FIELDS, KEYS[2 * i + 1], KEYS[2 * i + 2])
end
return answers
