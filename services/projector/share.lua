-- A projector asks for its share: note that it is there, renew its leases, claim its part of those that are free.
--
-- KEYS[1] the projectors, [2 …] the lease of partition 0, 1, …
-- ARGV[1] its id, [2] milliseconds a lease lasts,
--   [3] 'new' when it asks for the first time, 'back' while it was away lately, else 'known',
--   [4 …] the partitions it follows and means to keep
-- Returns {partitions it holds now, partition it should hand over or -1, 1 if it was away until now,
--   keys of a wrong type that were deleted}

local id, lasts, standing = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local deleted = {}

local function heal(key, wanted)
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'none' and kind ~= wanted then
    redis.call('DEL', key)
    table.insert(deleted, key)
  end
end

heal(KEYS[1], 'zset')
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local was_away = standing ~= 'new' and not redis.call('ZSCORE', KEYS[1], id)
redis.call('ZADD', KEYS[1], now + lasts, id)
redis.call('PEXPIRE', KEYS[1], lasts)
local present = redis.call('ZRANGE', KEYS[1], 0, -1)

local holders = redis.call('MGET', unpack(KEYS, 2))
local holds = {}
for _, projector in ipairs(present) do holds[projector] = 0 end
for _, holder in ipairs(holders) do
  if holder and holds[holder] then holds[holder] = holds[holder] + 1 end
end

local function fewest()
  local count = holds[id]
  for _, held in pairs(holds) do count = math.min(count, held) end
  return count
end

local function take(partition)
  redis.call('SET', KEYS[partition + 2], id, 'PX', lasts)
  if holders[partition + 1] ~= id then holds[id] = holds[id] + 1 end
  holders[partition + 1] = id
end

local follows = {}
for place = 4, #ARGV do follows[tonumber(ARGV[place])] = true end
local free = {}
for partition = 0, #KEYS - 2 do
  local holder = holders[partition + 1]
  if not holder then heal(KEYS[partition + 2], 'string') end
  if holder == id or (not holder and follows[partition]) then
    take(partition)
  elseif not holder then
    table.insert(free, partition)
  end
end
-- Who was away too long, as everybody is when Redis was, keeps what it follows if that is still free, and claims
-- nothing else for a while: the first to come back would take all, and give it back one by one.
local may_claim = standing ~= 'back' and not was_away
while may_claim and #free > 0 and holds[id] == fewest() do take(table.remove(free, 1)) end

-- One partition changes hands at a time: the projector with the most gives, and nobody while any lease is free.
local gives = #free == 0 and holds[id] >= fewest() + 2
for projector, held in pairs(holds) do
  if held > holds[id] or (held == holds[id] and projector < id) then gives = false end
end

local held = {}
for partition = 0, #KEYS - 2 do
  if holders[partition + 1] == id then table.insert(held, partition) end
end
return { held, gives and held[#held] or -1, was_away and 1 or 0, deleted }
