-- Commit folded views of one partition: state, feed and change feed together, each view only if it is still
-- the one that was folded on.
--
-- KEYS[1] change feed, KEYS[2] generation, KEYS[3] checkpoint hash, then per view: its key, its feed
-- ARGV[1] generation folded under, [2] feed length, [3] change feed length, [4] TTL (s),
--   [5] source, [6] and [7] the stream id (milliseconds, sequence) of the checkpoint the events follow,
--   [8] number of the newest change known; 0: unknown,
--   then per view: topic path, version folded on, version it is now, position folded on, epoch, first, heard, state,
--   number of events,
--   then per event: name, data, stream id
-- Returns the number of the newest change, then per view 1 (committed) or 0 (moved on meanwhile); or, with nothing
-- written, 'generation' when that is another by now, 'went back' when this partition's own checkpoint is older than the
-- one the events follow, or the newest change is gone: positions it gave would be given again in the same epoch

local FEED_BYTES = 16 * 1024 * 1024
local changes, generation = KEYS[1], KEYS[2]
local feed_length, changes_length, ttl = tonumber(ARGV[2]), ARGV[3], ARGV[4]
local views = (#KEYS - 3) / 2

if (redis.call('GET', generation) or '0') ~= ARGV[1] then return 'generation' end

local ms, seq = string.match(redis.call('HGET', KEYS[3], ARGV[5]) or ' 0-0', ' (%d+)-(%d+)$')
ms, seq = tonumber(ms), tonumber(seq)
local since_ms, since_seq = tonumber(ARGV[6]), tonumber(ARGV[7])
if ms < since_ms or (ms == since_ms and seq < since_seq) then return 'went back' end

local newest = newest_change(changes)
if (newest or 0) < tonumber(ARGV[8]) then return 'went back' end

local outcome = {}
for i = 1, views do
  outcome[i] = redis.call('HGET', KEYS[2 * i + 2], 'version') or ''
end

local change = newest or change_to_follow(changes)

local at = 9
for i = 1, views do
  local view, feed = KEYS[2 * i + 2], KEYS[2 * i + 3]
  local path, version, version_now, pos = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  local epoch, first, heard, state = ARGV[at + 4], ARGV[at + 5], ARGV[at + 6], ARGV[at + 7]
  local events = tonumber(ARGV[at + 8])
  at = at + 9
  if outcome[i] ~= version then
    outcome[i] = 0
  else
    outcome[i] = 1
    -- Without this a feed that outlived its view would refuse positions that begin at 1 again.
    if version == '' then redis.call('DEL', feed) end
    for e = 0, events - 1 do
      local name, data, stream_id = ARGV[at + 3 * e], ARGV[at + 3 * e + 1], ARGV[at + 3 * e + 2]
      pos = pos + 1
      change = change + 1
      local position = string.format('%.0f', pos)
      -- A thousand of the largest events would be 256 MB, in each of any number of feeds.
      local most = math.min(feed_length, math.floor(FEED_BYTES / #data))
      redis.call('XADD', feed, 'MAXLEN', '~', most, position .. '-0',
        'event', name, 'data', data, 'stream_id', stream_id)
      redis.call('XADD', changes, 'MAXLEN', '~', changes_length, string.format('%.0f-0', change),
        'topic', path, 'epoch', epoch, 'pos', position, 'event', name, 'data', data, 'stream_id', stream_id)
    end
    redis.call('HSET', view, 'version', version_now,
      'pos', string.format('%.0f', pos), 'first', first, 'heard', heard, 'state', state)
    redis.call('EXPIRE', view, ttl)
    redis.call('EXPIRE', feed, ttl)
  end
  at = at + 3 * events
end

table.insert(outcome, 1, change)
return outcome
