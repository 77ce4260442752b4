-- Move a checkpoint forward, never back: rivals on one partition may arrive out of order.
--
-- KEYS[1] checkpoint hash
-- ARGV[1] source name, [2] offset, [3] and [4] its stream id (milliseconds, sequence),
--   [5] and [6] the stream id of the checkpoint it follows
-- Returns 1 when it moved, 0 when it was as far already, -1 when it is older than the one that is followed: moving it
-- would hide that this partition lost its latest writes

local ms, seq = string.match(redis.call('HGET', KEYS[1], ARGV[1]) or ' 0-0', ' (%d+)-(%d+)$')
ms, seq = tonumber(ms), tonumber(seq)
local to_ms, to_seq, since_ms, since_seq = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
if ms < since_ms or (ms == since_ms and seq < since_seq) then return -1 end
if to_ms < ms or (to_ms == ms and to_seq <= seq) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3] .. '-' .. ARGV[4])
return 1
