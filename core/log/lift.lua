-- Move events of a source stream to its end, in their order, under ids and offsets above a floor.
--
-- KEYS[1] source stream, KEYS[2] offset counter
-- ARGV[1] the oldest event to move ('': none; only what is appended from now on comes above the floor),
--   [2] and [3] the floor's stream id (milliseconds, sequence), [4] its offset, [5] how many events to move at most;
--   no more than have about 8 MiB, but for a single one
-- Returns how many events were moved, and how many are still to be
--
-- Those that were moved above this floor before stay: so a call that did not get through all of them, or whose caller
-- died, is followed by another, and what was appended meanwhile still comes after what was appended before.

local PAGE, FIELDS, BYTES = 50, 3000, 8 * 1024 * 1024
local stream, counter = KEYS[1], KEYS[2]
local floor, most = ARGV[2] .. '-' .. ARGV[3], tonumber(ARGV[5])

local function is_lifted(fields)
  for i = 1, #fields, 2 do
    if fields[i] == 'lifted' then return string.sub(fields[i + 1], 1, #floor + 1) == floor .. ' ' end
  end
  return false
end

-- nil where there is none, 0 where it is no number
local function offset_in(fields)
  for i = 1, #fields, 2 do
    if fields[i] == 'offset' then return tonumber(fields[i + 1]) or 0 end
  end
end

local function bytes_of(fields)
  local bytes = 0
  for i = 1, #fields do bytes = bytes + #fields[i] end
  return bytes
end

local function lifted(id, fields, offset)
  local values = {}
  for i = 1, #fields, 2 do
    if fields[i] ~= 'lifted' then
      values[#values + 1] = fields[i]
      values[#values + 1] = fields[i] == 'offset' and offset or fields[i + 1]
    end
  end
  values[#values + 1] = 'lifted'
  values[#values + 1] = floor .. ' ' .. id
  return values
end

local ids, left, bytes, offset, from = {}, 0, 0, tonumber(ARGV[4]), ARGV[1]
local stays = redis.call('XREVRANGE', stream, from == '' and '+' or '(' .. from, '-', 'COUNT', 1)[1]
if stays then offset = math.max(offset, offset_in(stays[2]) or 0) end
while from ~= '' do
  local page = redis.call('XRANGE', stream, from, '+', 'COUNT', PAGE)
  for _, entry in ipairs(page) do
    if is_lifted(entry[2]) then
      offset = math.max(offset, offset_in(entry[2]) or 0)
    elseif #entry[2] < FIELDS then
      if #ids < most and bytes < BYTES then
        ids[#ids + 1] = entry[1]
        bytes = bytes + bytes_of(entry[2])
      else
        left = left + 1
      end
    end
  end
  from = #page == PAGE and '(' .. page[PAGE][1] or ''
end

-- Ids only rise: an entry at the floor, gone at once, has every later one come after it. It fails where it is not above
-- the newest id, and then there is no need for it.
if redis.pcall('XADD', stream, floor, 'offset', '0').err == nil then redis.call('XDEL', stream, floor) end

for _, id in ipairs(ids) do
  local fields = redis.call('XRANGE', stream, id, id)[1][2]
  local following = string.format('%.0f', offset + 1)
  redis.call('XADD', stream, '*', unpack(lifted(id, fields, following)))
  redis.call('XDEL', stream, id)
  if offset_in(fields) then offset = offset + 1 end
end
redis.call('SET', counter, string.format('%.0f', offset))
return { #ids, left }
