-- Keep or give up what only one program at a time may have, if this one still has it.
--
-- KEYS[1] who has it
-- ARGV[1] who asks, [2] seconds to keep it from now on; 0 gives it up
-- Returns 1, or 0 with nothing changed when somebody else has it, or nobody

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then redis.call('DEL', KEYS[1]) else redis.call('EXPIRE', KEYS[1], ARGV[2]) end
return 1
