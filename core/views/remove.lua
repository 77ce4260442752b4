-- Remove a topic's view and feed, and have its viewers look again. Who looked before puts nothing in their place.
--
-- KEYS[1] change feed, KEYS[2] view, KEYS[3] feed, KEYS[4] when a view was removed
-- ARGV[1] topic path, [2] change feed length, [3] 1: say so though there is neither
-- Returns 1 when there was a view, how many entries the feed had, and the id of the change that says so

local said = ''
local was, entries = redis.call('EXISTS', KEYS[2]), redis.call('XLEN', KEYS[3])
if was + entries > 0 or ARGV[3] == '1' then
  local id = string.format('%.0f-0', change_to_follow(KEYS[1]) + 1)
  said = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], id, 'rebuilt', ARGV[1])
end
redis.call('UNLINK', KEYS[2], KEYS[3])
redis.call('SET', KEYS[4], table.concat(redis.call('TIME'), '.'), 'EX', 86400)
return { was, entries, said }
