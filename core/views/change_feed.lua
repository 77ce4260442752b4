-- What all scripts that write to a change feed share; it stands before them.

-- The number of the newest change there ever was, also one that another hand deleted: none below it can be added any
-- more. nil before there was any.
local function newest_change(feed)
  if redis.call('EXISTS', feed) == 0 then return nil end
  local about = redis.call('XINFO', 'STREAM', feed)
  for i = 1, #about, 2 do
    if about[i] == 'last-generated-id' then return tonumber(string.match(about[i + 1], '^%d+')) end
  end
end

-- The number the next change follows. A feed that began anew must not pass for the old one when it has grown as long:
-- its numbers begin at the clock.
local function change_to_follow(feed)
  local newest = newest_change(feed)
  if newest then return newest end
  local clock = redis.call('TIME')
  return clock[1] * 1000000 + clock[2]
end

