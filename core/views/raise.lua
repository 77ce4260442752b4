-- Raise a view partition's generation and tell everyone who follows its change feed.
--
-- KEYS[1] generation, KEYS[2] change feed
-- ARGV[1] change feed length
-- Returns the new generation

local generation = redis.call('INCR', KEYS[1])
local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
-- A feed that began anew must not pass for the old one when it has grown as long: its numbers begin at the clock.
local clock = redis.call('TIME')
local change = newest and tonumber(string.match(newest[1], '^%d+')) or clock[1] * 1000000 + clock[2]
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[1], string.format('%.0f-0', change + 1),
  'generation', tostring(generation))
return generation
