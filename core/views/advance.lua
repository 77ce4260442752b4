-- Move a checkpoint forward, never back: rivals on one partition may arrive out of order.
--
-- KEYS[1] checkpoint hash, KEYS[2] generation, KEYS[3] change feed
-- ARGV[1] source name, [2] offset, [3] and [4] its stream id (milliseconds, sequence),
--   [5] and [6] the stream id of the checkpoint it follows,
--   [7] generation the events were folded under, [8] number of the newest change known; both empty: unknown
-- Returns 1 when it moved, 0 when it was as far already; or, with nothing written, 'generation' when that is another by
-- now, 'went back' when the checkpoint is older than the one that is followed or the newest change is gone: moving it
-- would hide that this partition lost its latest writes, maybe the very commit this checkpoint stands for

if ARGV[7] ~= '' and (redis.call('GET', KEYS[2]) or '0') ~= ARGV[7] then return 'generation' end
if ARGV[8] ~= '' then
  if (newest_change(KEYS[3]) or 0) < tonumber(ARGV[8]) then return 'went back' end
end
local ms, seq = string.match(redis.call('HGET', KEYS[1], ARGV[1]) or ' 0-0', ' (%d+)-(%d+)$')
ms, seq = tonumber(ms), tonumber(seq)
local to_ms, to_seq, since_ms, since_seq = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
if ms < since_ms or (ms == since_ms and seq < since_seq) then return 'went back' end
if to_ms < ms or (to_ms == ms and to_seq <= seq) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3] .. '-' .. ARGV[4])
return 1
