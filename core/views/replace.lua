-- Put another view in the place of a topic's, with its feed, if the view is still the one that was looked at.
--
-- KEYS[1] change feed, KEYS[2] generation, KEYS[3] view, KEYS[4] feed, KEYS[5] the new feed under its staging name,
--   KEYS[6] when a view of the partition was removed for good
-- ARGV[1] generation looked at, [2] version looked at ('': there was no view), [3] version of the new one,
--   [4] change feed length, [5] TTL (s), [6] topic path, [7] position, [8] first, [9] heard, [10] state, [11] when one was removed, as looked at
-- Returns 1, or 0 with nothing changed when the view, the generation or the staged feed is another by now, or some view
-- was removed: it may have been this one, and nobody is to bring it back

if (redis.call('GET', KEYS[2]) or '0') ~= ARGV[1] then return 0 end
if (redis.call('HGET', KEYS[3], 'version') or '') ~= ARGV[2] then return 0 end
if redis.call('EXISTS', KEYS[5]) == 0 then return 0 end
if (redis.call('GET', KEYS[6]) or '') ~= ARGV[11] then return 0 end

redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[4], string.format('%.0f-0', change_to_follow(KEYS[1]) + 1),
  'rebuilt', ARGV[6])
redis.call('RENAME', KEYS[5], KEYS[4])
redis.call('EXPIRE', KEYS[4], ARGV[5])
redis.call('HSET', KEYS[3], 'version', ARGV[3], 'pos', ARGV[7], 'first', ARGV[8], 'heard', ARGV[9], 'state', ARGV[10])
redis.call('EXPIRE', KEYS[3], ARGV[5])
return 1
