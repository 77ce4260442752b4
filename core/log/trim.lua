-- Trim a source stream towards its length, but never beyond what the views have taken in.
--
-- KEYS[1] source stream
-- ARGV[1] length to keep, [2] stream id of the checkpoint
-- Returns how many entries went
--
-- What goes is found by id, not by counting offsets: entries added by another hand have none, and each would push an
-- event out that is in no view yet. At most 1,000 entries go at once, so that Redis is not held up.

local excess = math.min(redis.call('XLEN', KEYS[1]) - tonumber(ARGV[1]), 1000)
if excess <= 0 then return 0 end
local oldest = redis.call('XRANGE', KEYS[1], '-', ARGV[2], 'COUNT', excess)
if #oldest == 0 then return 0 end
local ms, seq = string.match(oldest[#oldest][1], '^(%d+)-(%d+)$')
return redis.call('XTRIM', KEYS[1], 'MINID', ms .. '-' .. string.format('%.0f', tonumber(seq) + 1))
