-- Append dead letters of one source to it again as new events, and delete them: both or neither.
--
-- KEYS[1] source stream, [2] offset counter, [3] dead letters, then per letter the key that remembers where it was
--   redriven to, then owner keys
-- ARGV[1] source name, [2] owner TTL (s), [3] seconds a repeat is recognised, then per letter: its id, the user its
--   event belongs to ('': as the event says), the index in KEYS of its owner key (0: none)
-- Returns per letter {stream id, offset}, {} when there is no such letter
--
-- The new event has every field of the old one, an id made of the letter's, the next offset, which event it repeats, and
-- how often that was tried. What can fail comes first: the reads, then XADD; only then does the counter move.

local FIELDS = 3
local PREFIX = 'original:'
local source, counter, dead = KEYS[1], KEYS[2], KEYS[3]
local offset = tonumber(redis.call('GET', counter) or '0')
local answers = {}

local function new_event(letter, letter_id, user, following)
  local told = { id = 'redrive:' .. ARGV[1] .. ':' .. letter_id, offset = following }
  if user ~= '' then told.user = user end
  local original, values, has = {}, {}, {}
  for i = 1, #letter, 2 do
    local name = letter[i]
    if string.sub(name, 1, #PREFIX) == PREFIX then
      name = string.sub(name, #PREFIX + 1)
      if name ~= 'redriven' and name ~= 'attempts' then
        values[#values + 1] = name
        values[#values + 1] = told[name] or letter[i + 1]
        has[name] = true
      end
    else
      original[name] = letter[i + 1]
    end
  end
  for _, name in ipairs({ 'id', 'offset' }) do
    if not has[name] then
      values[#values + 1] = name
      values[#values + 1] = told[name]
    end
  end
  for _, value in ipairs({ 'redriven', ARGV[1] .. ' ' .. original.stream_id, 'attempts', original.attempts }) do
    values[#values + 1] = value
  end
  return values
end

for i = 1, (#ARGV - 3) / FIELDS do
  local at = 4 + (i - 1) * FIELDS
  local letter_id, user, owner_index = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local redriven_key = KEYS[3 + i]
  local letter = redis.call('XRANGE', dead, letter_id, letter_id)[1]
  local known = redis.call('GET', redriven_key)
  if not letter and known then
    local id, place = string.match(known, '^(%S+) (%d+)$')
    answers[i] = { id, tonumber(place) }
  elseif not letter then
    answers[i] = {}
  else
    local following = string.format('%.0f', offset + 1)
    local id = redis.call('XADD', source, '*', unpack(new_event(letter[2], letter_id, user, following)))
    offset = offset + 1
    redis.call('SET', counter, following)
    redis.call('XDEL', dead, letter_id)
    redis.call('SET', redriven_key, id .. ' ' .. following, 'EX', ARGV[3])
    if owner_index > 0 then redis.call('SET', KEYS[owner_index], user, 'EX', ARGV[2]) end
    answers[i] = { id, offset }
  end
end

return answers
