-- Remove a view that cannot be read, and its feed; not one that was written since it was looked at.
--
-- KEYS[1] view, KEYS[2] feed
-- ARGV[1] the version it had then, or nothing
-- Returns 1 when it was removed

if redis.call('TYPE', KEYS[1]).ok == 'hash' and (redis.call('HGET', KEYS[1], 'version') or '') ~= ARGV[1] then
  return 0
end
redis.call('UNLINK', KEYS[1], KEYS[2])
return 1
