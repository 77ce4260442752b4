-- Append dead letters of one source to it again as new events, and delete them: both or neither.
--
-- KEYS[1] source stream, [2] offset counter, [3] dead letters, then per letter the key that remembers where it was
--   redriven to, then owner keys
-- ARGV[1] source name, [2] owner TTL (s), [3] seconds a repeat is recognised, [4] name of this call, then per letter:
--   its id, the user its event belongs to ('': as the event says), the index in KEYS of its owner key (0: none)
-- Returns per letter 'done', 'already' when another call did it, 'gone' when there is no such letter
--
-- A call whose reply was lost comes again under the same name: what it did then is its own.
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

for i = 1, (#ARGV - 4) / FIELDS do
  local at = 5 + (i - 1) * FIELDS
  local letter_id, user, owner_index = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local redriven_key = KEYS[3 + i]
  local letter = redis.call('XRANGE', dead, letter_id, letter_id)[1]
  local known = redis.call('GET', redriven_key)
  if not letter and known then
    answers[i] = string.match(known, '(%S+)$') == ARGV[4] and 'done' or 'already'
  elseif not letter then
    answers[i] = 'gone'
  else
    local following = string.format('%.0f', offset + 1)
    local id = redis.call('XADD', source, '*', unpack(new_event(letter[2], letter_id, user, following)))
    offset = offset + 1
    redis.call('SET', counter, following)
    redis.call('XDEL', dead, letter_id)
    redis.call('SET', redriven_key, id .. ' ' .. following .. ' ' .. ARGV[4], 'EX', ARGV[3])
    if owner_index > 0 then redis.call('SET', KEYS[owner_index], user, 'EX', ARGV[2]) end
    answers[i] = 'done'
  end
end

return answers
