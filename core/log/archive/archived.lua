-- Move the archiver's checkpoint of a source, if it still stands where the archived events began.
--
-- KEYS[1] checkpoint, [2] source stream
-- ARGV[1] the checkpoint before as it is stored, [2] the new one, [3] milliseconds and [4] sequence of its stream id
-- Returns 1 when it moved, 0 when another archiver or a failover moved it, or the log lost what was archived
--
-- A log that went back gives the same ids again: what a checkpoint ahead of it stands for would never be archived.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local about = redis.call('XINFO', 'STREAM', KEYS[2])
for i = 1, #about, 2 do
  if about[i] == 'last-generated-id' then
    local milliseconds, sequence = string.match(about[i + 1], '^(%d+)-(%d+)$')
    milliseconds, sequence = tonumber(milliseconds), tonumber(sequence)
    local ms, seq = tonumber(ARGV[3]), tonumber(ARGV[4])
    if milliseconds < ms or (milliseconds == ms and sequence < seq) then return 0 end
  end
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
