-- Move a checkpoint forward, never back: rivals on one partition may arrive out of order.
--
-- KEYS[1] checkpoint hash
-- ARGV[1] source name, [2] offset, [3] stream id as milliseconds, [4] its sequence
-- Returns 1 when it moved, else 0

local known = redis.call('HGET', KEYS[1], ARGV[1])
if known then
  local ms, seq = string.match(known, ' (%d+)-(%d+)$')
  local now_ms, now_seq = tonumber(ARGV[3]), tonumber(ARGV[4])
  ms, seq = tonumber(ms), tonumber(seq)
  if now_ms < ms or (now_ms == ms and now_seq <= seq) then return 0 end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3] .. '-' .. ARGV[4])
return 1
