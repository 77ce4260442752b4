-- Remove a key that is of another type than we keep there.
--
-- KEYS[1] the key
-- ARGV[1] the type it should have
-- Returns the type it had when it was removed, else an empty string

local found = redis.call('TYPE', KEYS[1]).ok
if found == 'none' or found == ARGV[1] then return '' end
redis.call('UNLINK', KEYS[1])
return found
