-- Bind a key to a digest, if it is bound to no other.
--
-- KEYS[1] the key
-- ARGV[1] digest, [2] seconds
-- Returns 1 when it is bound to this digest, from now on for so many seconds; 0 when it is bound to another

-- What another hand put there is no digest: pcall gives a table for it, and SET takes its place.
local bound = redis.pcall('GET', KEYS[1])
if type(bound) == 'string' and bound ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
