-- Change the layout, if it is still the one that was looked at.
--
-- KEYS[1] layout
-- ARGV[1] the layout that was looked at ('' for none), [2] the new one
-- Returns 1 when it changed, 0 when it is another by now

if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
