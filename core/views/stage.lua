-- Write entries of a feed that is to take another's place.
--
-- KEYS[1] the feed
-- ARGV[1] TTL (s), then per entry four: position, event, data, stream id

for i = 2, #ARGV, 4 do
  redis.call('XADD', KEYS[1], ARGV[i] .. '-0', 'event', ARGV[i + 1], 'data', ARGV[i + 2], 'stream_id', ARGV[i + 3])
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
