-- Append events to one partition of a source stream, each once.
--
-- KEYS[1] source stream, KEYS[2] offset counter, then per event: its owner key, its seen key
-- ARGV[1] owner TTL (s), [2] name of this call, then per event two: its data, and these on a line each, because many
--   arguments cost more than one that is taken apart: id type v tenant topic user run time window (s) settled (0|1: the
--   user is the topic's owner, whatever this stream remembers), and where one of these is known: correlation causation
-- Returns per event {stream id, offset, duplicate (0|1)}, and behind that the keys of its own that were made anew
--
-- A call whose reply was lost comes again under the same name: what it appended then is no duplicate now. The same id
-- twice within one call is.
--
-- A script that fails half-way is not rolled back. So per event what can fail comes first: the reads, then XADD, which
-- fails on a key of the wrong type; only then does the counter move. A failing XADD ends the call: it is the stream's
-- fault or Redis's (a replica, no memory), and the client knows which errors to try again.

local LINES = '^' .. string.rep('([^\n]*)\n', 9) .. '([^\n]*)(.*)$'
local stream, counter = KEYS[1], KEYS[2]
local owner_ttl, name = ARGV[1], ARGV[2]
local offset = tonumber(redis.call('GET', counter) or '0')
local met = {}

-- What another hand put in a note's place would keep its topic's events out for as long as it stands there.
local function note(key, repaired)
  local found = redis.pcall('GET', key)
  if type(found) ~= 'table' then return found end
  redis.call('UNLINK', key)
  repaired[#repaired + 1] = key
  return false
end

-- What few events have.
local function further(lines)
  local correlation, causation = string.match(lines, '^\n([^\n]*)\n([^\n]*)$')
  local fields = {}
  if correlation and correlation ~= '' then fields = { 'correlation', correlation } end
  if causation and causation ~= '' then
    fields[#fields + 1] = 'causation'
    fields[#fields + 1] = causation
  end
  return unpack(fields)
end

local function append(data, lines, owner_key, seen_key)
  local repaired = {}
  local seen, owner = note(seen_key, repaired), note(owner_key, repaired)
  local id, known, by = string.match(seen or '', '^(%S+) (%d+) ?(%S*)$')
  if id then
    local duplicate = (met[seen_key] or by ~= name) and 1 or 0
    met[seen_key] = true
    return { id, tonumber(known), duplicate, unpack(repaired) }
  end
  local event_id, kind, v, tenant, topic, user, run, time, window, settled, more = string.match(lines, LINES)
  if owner and settled == '0' then user = owner end
  local following = string.format('%.0f', offset + 1)
  id = redis.call('XADD', stream, '*', 'id', event_id, 'type', kind, 'v', v, 'tenant', tenant, 'topic', topic,
    'offset', following, 'user', user, 'run', run, 'time', time, 'data', data, further(more))
  offset = offset + 1
  redis.call('SET', counter, following)
  if user ~= '' then redis.call('SET', owner_key, user, 'EX', owner_ttl) end
  redis.call('SET', seen_key, id .. ' ' .. following .. ' ' .. name, 'EX', window)
  met[seen_key] = true
  return { id, offset, 0, unpack(repaired) }
end

local answers = {}
for i = 1, (#KEYS - 2) / 2 do
  answers[i] = append(ARGV[2 * i + 1], ARGV[2 * i + 2], KEYS[2 * i + 1], KEYS[2 * i + 2])
end
return answers
