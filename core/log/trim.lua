-- Trim a source stream towards its length, but never beyond what is still needed.
--
-- KEYS[1] source stream
-- ARGV[1] length to keep, [2] the first stream id that must stay, [3] the stream id of the checkpoint behind it
-- Returns {entries that went, entries that are left, the stream id below which they went}
--
-- What goes is found by id, not by counting offsets: entries added by another hand have none, and each would push an
-- event out that is in no view yet. At most 1,000 entries go at once, so that Redis is not held up, and in steps,
-- because each step's entries are copied whole.

local STEP, MOST = 100, 1000
local length = redis.call('XLEN', KEYS[1])
local excess = math.min(length - tonumber(ARGV[1]), MOST)
local gone, below = 0, '0-0'

-- A checkpoint beyond the newest entry is of another log: what this one has may be in no view.
if excess > 0 and #redis.call('XRANGE', KEYS[1], ARGV[3], '+', 'COUNT', 1) == 0 then
  return { 0, length, below }
end

while excess > 0 do
  local step = math.min(excess, STEP)
  local oldest = redis.call('XRANGE', KEYS[1], '-', '(' .. ARGV[2], 'COUNT', step + 1)
  if #oldest == 0 then break end
  local stays = oldest[step + 1]
  below = stays and stays[1] or ARGV[2]
  local cut = redis.call('XTRIM', KEYS[1], 'MINID', below)
  gone = gone + cut
  excess = excess - cut
  if not stays then break end
end

return { gone, length - gone, below }
