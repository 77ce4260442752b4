-- Raise a view partition's generation and tell everyone who follows its change feed.
--
-- KEYS[1] generation, KEYS[2] change feed
-- ARGV[1] change feed length
-- Returns the new generation

local clock = redis.call('TIME')
-- At the clock, not one more than before: a failover that loses this, and another raise after it, would give the same
-- number to two histories, and a cursor of the one would hold in the other.
local milliseconds = clock[1] * 1000 + math.floor(clock[2] / 1000)
local generation = string.format('%.0f', math.max(tonumber(redis.call('GET', KEYS[1]) or '0') + 1, milliseconds))
redis.call('SET', KEYS[1], generation)
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[1], string.format('%.0f-0', change_to_follow(KEYS[2]) + 1),
  'generation', generation)
return generation
