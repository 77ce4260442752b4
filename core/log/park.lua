-- Park one entry of a source stream as a dead letter, once.
--
-- KEYS[1] dead letters, [2] parked ids, [3] source stream, [4] and [5] where KEYS[1] and KEYS[2] are put aside
-- ARGV[1] the entry's stream id, [2] most letters, [3] seconds a key that is put aside is kept, then the letter's fields
-- Returns {parked now (0|1), letters pushed out, keys put aside}
--
-- A letter has its entry's id while these rise. An entry whose id is not above the newest letter's (the source stream
-- went back) gets the next id there is: the set of parked ids, not the letter, says what was parked before. So an entry
-- that was parked, redriven and is read again is not parked again.

local dead, parked, source = KEYS[1], KEYS[2], KEYS[3]
local id, most, keep = ARGV[1], tonumber(ARGV[2]), ARGV[3]

local put_aside = 0
local function clear(key, wanted, aside)
  local found = redis.call('TYPE', key)['ok']
  if found ~= 'none' and found ~= wanted then
    redis.call('RENAME', key, aside)
    redis.call('EXPIRE', aside, keep)
    put_aside = put_aside + 1
  end
end
clear(dead, 'stream', KEYS[4])
clear(parked, 'zset', KEYS[5])

if redis.call('ZSCORE', parked, id) then return { 0, 0, put_aside } end

local oldest = redis.call('XRANGE', source, '-', '+', 'COUNT', 1)[1]
local time = redis.call('TIME')
local fields = { 'parked', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)) }
for i = 4, #ARGV do fields[#fields + 1] = ARGV[i] end
local letter = redis.pcall('XADD', dead, id, unpack(fields))
if type(letter) == 'table' then redis.call('XADD', dead, '*', unpack(fields)) end
redis.call('ZADD', parked, string.match(id, '^%d+'), id)

-- What is no longer in the source stream is never read again.
if oldest then redis.call('ZREMRANGEBYSCORE', parked, '-inf', '(' .. string.match(oldest[1], '^%d+')) end
return { 1, redis.call('XTRIM', dead, 'MAXLEN', most), put_aside }
