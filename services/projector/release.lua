-- Give a lease back if it is still one's own.
--
-- KEYS[1] the lease
-- ARGV[1] the projector's id
-- Returns 1 when it was

local holder = redis.call('MGET', KEYS[1])[1] -- GET would fail on a key of another type
if holder ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
