-- Trim a source stream to its length, but never below what the views have taken in.
--
-- KEYS[1] source stream, KEYS[2] offset counter
-- ARGV[1] length to keep, [2] offset of the checkpoint
-- Returns how many entries went
--
-- Offsets have no holes, so newest minus checkpoint is how many entries are still needed. Both are read in one
-- step with the trim: an event appended meanwhile would otherwise push an unread one out.

local newest = tonumber(redis.call('GET', KEYS[2]) or '0')
local keep = math.max(tonumber(ARGV[1]), newest - tonumber(ARGV[2]))
return redis.call('XTRIM', KEYS[1], 'MAXLEN', string.format('%.0f', keep))
