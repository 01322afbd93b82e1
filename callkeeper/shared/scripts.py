"""What Valkey does for replicas in one step each. Text only: Lua 5.1.

The names of all keys begin with KEYS[1], written ``*`` here:

``*:call:ID``        a hash: ``facts`` and ``progress`` as `record` has them, counters by name,
                     ``owner`` and ``second``: ids of the replicas that keep it and listen, too,
                     ``name``, ``handle``, ``key``, ``token``: what names it below,
                     ``wanted``: why somebody wants it to end, ``ended``: when, in ms since 1970
``*:usages:ID``      a set: ids of the usages that its counters contain
``*:leases``         a sorted set: until when its owner keeps a call, in ms since 1970
``*:seconds``        a sorted set: the same of its second observer; 0 if it lacks one
``*:name:DIGEST``    a call's id by its deployment and the provider's id
``*:handle:DIGEST``  a call's id by its handle
``*:of:WHAT``        a sorted set: ids of the calls of a key or a token, and until when they stay
``*``                a channel: the id of a call that has changed for its owner, or ``look`` if one
                     lacks an owner or a second observer

The clock is the server's. An answer for a call that is not there is false.
"""

from typing import Final

from callkeeper.shared.record import TOKENS

COUNTERS: Final = ("cost", *TOKENS)

_HEAD: Final = f"""
local base = KEYS[1]
local leases, seconds = base .. ':leases', base .. ':seconds'
local counters = {{{", ".join(f"'{name}'" for name in COUNTERS)}}}
local function call(id) return base .. ':call:' .. id end
local function usages(id) return base .. ':usages:' .. id end
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function dump(id)
  local found = redis.call('HMGET', call(id), 'facts', 'progress', 'owner', 'wanted', 'ended')
  if not found[1] then return false end
  return {{id, found, redis.call('HMGET', call(id), unpack(counters)),
    redis.call('SMEMBERS', usages(id))}}
end
local function vacate(id)
  redis.call('HDEL', call(id), 'second')
  redis.call('ZADD', seconds, 0, id)
end
"""

# ARGV: id, replica, ms of the lease, seconds that the record stays, digest of the name, digest of
# the handle, key, token or '', whether it needs a second observer, facts, progress, counters,
# ids of usages. Returns the id under which the call is known, and its owner.
OPEN: Final = (
    _HEAD
    + """
local id, me, lease, stays = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local name = base .. ':name:' .. ARGV[5]
local known = redis.call('GET', name)
local owner = known and redis.call('HGET', call(known), 'owner')
if owner then return {known, owner} end
redis.call('SET', name, id, 'EX', stays)
redis.call('SET', base .. ':handle:' .. ARGV[6], id, 'EX', stays)
for at = 7, 8 do
  if ARGV[at] ~= '' then
    redis.call('ZREMRANGEBYSCORE', base .. ':of:' .. ARGV[at], '-inf', clock())
    redis.call('ZADD', base .. ':of:' .. ARGV[at], clock() + stays * 1000, id)
    redis.call('EXPIRE', base .. ':of:' .. ARGV[at], stays)
  end
end
redis.call('HSET', call(id), 'facts', ARGV[10], 'progress', ARGV[11], 'owner', me,
  'name', ARGV[5], 'handle', ARGV[6], 'key', ARGV[7], 'token', ARGV[8])
for at, counter in ipairs(counters) do redis.call('HSET', call(id), counter, ARGV[11 + at]) end
redis.call('EXPIRE', call(id), stays)
for at = 12 + #counters, #ARGV do redis.call('SADD', usages(id), ARGV[at]) end
if redis.call('EXISTS', usages(id)) == 1 then redis.call('EXPIRE', usages(id), stays) end
redis.call('ZADD', leases, clock() + lease, id)
if ARGV[9] == '1' then
  redis.call('ZADD', seconds, 0, id)
  redis.call('PUBLISH', base, 'look')
end
return {id, me}
"""
)

# ARGV: replica, ms of the lease, ids. Renews the leases of an owner; returns for each call
# {state, wanted, cost}, with the state 'kept', 'lost' (also when it has ended) or 'missing'.
RENEW: Final = (
    _HEAD
    + """
local me, till, answers = ARGV[1], clock() + ARGV[2], {}
for at = 3, #ARGV do
  local id = ARGV[at]
  local found = redis.call('HMGET', call(id), 'owner', 'wanted', 'cost', 'ended')
  if not found[1] then answers[at - 2] = {'missing', '', '0'}
  elseif found[1] ~= me or found[4] then answers[at - 2] = {'lost', '', '0'}
  else
    redis.call('ZADD', leases, till, id)
    answers[at - 2] = {'kept', found[2] or '', found[3] or '0'}
  end
end
return answers
"""
)

# The same of a second observer; returns the states alone.
RENEW_SECOND: Final = (
    _HEAD
    + """
local me, till, answers = ARGV[1], clock() + ARGV[2], {}
for at = 3, #ARGV do
  local id = ARGV[at]
  local found = redis.call('HMGET', call(id), 'second', 'owner', 'ended')
  if not found[2] then answers[at - 2] = 'missing'
  elseif found[1] ~= me or found[3] then answers[at - 2] = 'lost'
  else
    redis.call('ZADD', seconds, till, id)
    answers[at - 2] = 'kept'
  end
end
return answers
"""
)

# ARGV: replica, ms of the lease, how many. Takes calls whose owner's lease is over, but for those
# whose second observer is alive: that one takes them. Returns {dump, ms since the lease was over}.
ADOPT: Final = (
    _HEAD
    + """
local me, now, taken = ARGV[1], clock(), {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now)) do
  if #taken >= tonumber(ARGV[3]) then break end
  local second = redis.call('HGET', call(id), 'second')
  local watched = tonumber(redis.call('ZSCORE', seconds, id) or '0') > now
  local there = redis.call('HMGET', call(id), 'owner', 'ended')
  if not there[1] or there[2] then
    redis.call('ZREM', leases, id)
    redis.call('ZREM', seconds, id)
  elseif not second or second == me or not watched then
    local over = now - redis.call('ZSCORE', leases, id)
    redis.call('HSET', call(id), 'owner', me)
    redis.call('ZADD', leases, now + ARGV[2], id)
    if redis.call('ZSCORE', seconds, id) and (second == me or not watched) then
      vacate(id)
      redis.call('PUBLISH', base, 'look')
    end
    taken[#taken + 1] = {dump(id), over}
  end
end
return taken
"""
)

# ARGV as of ADOPT. Becomes the second observer of calls of others that have none. Returns dumps.
JOIN: Final = (
    _HEAD
    + """
local me, now, joined = ARGV[1], clock(), {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', seconds, '-inf', now)) do
  if #joined >= tonumber(ARGV[3]) then break end
  local owner = redis.call('HGET', call(id), 'owner')
  if not owner then redis.call('ZREM', seconds, id)
  elseif owner ~= me then
    redis.call('HSET', call(id), 'second', me)
    redis.call('ZADD', seconds, now + ARGV[2], id)
    joined[#joined + 1] = dump(id)
  end
end
return joined
"""
)

# ARGV: replica, seconds that the record stays, and for each usage: the call, its id, counters.
# Adds those that are not contained yet; returns the counters of each call.
ADD: Final = (
    _HEAD
    + """
local me, answers, width = ARGV[1], {}, 2 + #counters
for at = 3, #ARGV, width do
  local id = ARGV[at]
  local owner = redis.call('HGET', call(id), 'owner')
  if not owner then answers[#answers + 1] = false
  else
    if redis.call('SADD', usages(id), ARGV[at + 1]) == 1 then
      redis.call('EXPIRE', usages(id), ARGV[2])
      for place, counter in ipairs(counters) do
        local value = ARGV[at + 1 + place]
        if counter == 'seconds' then
          if tonumber(value) > 0 then redis.call('HINCRBYFLOAT', call(id), counter, value) end
        elseif value ~= '0' then redis.call('HINCRBY', call(id), counter, value) end
      end
      if owner ~= me then redis.call('PUBLISH', base, id) end
    end
    answers[#answers + 1] = redis.call('HMGET', call(id), unpack(counters))
  end
end
return answers
"""
)

# ARGV: replica, and for each call: its id, its progress. Of an owner.
SAVE: Final = (
    _HEAD
    + """
for at = 2, #ARGV, 2 do
  if redis.call('HGET', call(ARGV[at]), 'owner') == ARGV[1] then
    redis.call('HSET', call(ARGV[at]), 'progress', ARGV[at + 1])
  end
end
"""
)

# ARGV: replica, seconds that the record stays, and for each call: its id, its progress. Of an
# owner: the calls have ended.
END: Final = (
    _HEAD
    + """
for at = 3, #ARGV, 2 do
  local id = ARGV[at]
  if redis.call('HGET', call(id), 'owner') == ARGV[1] then
    redis.call('HSET', call(id), 'progress', ARGV[at + 1], 'ended', clock())
    redis.call('ZREM', leases, id)
    redis.call('ZREM', seconds, id)
    local names = redis.call('HMGET', call(id), 'name', 'handle', 'key', 'token')
    for _, key in ipairs({call(id), usages(id), base .. ':name:' .. names[1],
      base .. ':handle:' .. names[2]}) do redis.call('EXPIRE', key, ARGV[2]) end
    for _, whose in ipairs({names[3], names[4]}) do
      redis.call('ZADD', base .. ':of:' .. whose, 'XX', clock() + ARGV[2] * 1000, id)
    end
    redis.call('PUBLISH', base, id)
  end
end
"""
)

# ARGV: replica, and for each call: its id, its progress. Gives them away, whether they are kept or
# only listened to.
RELEASE: Final = (
    _HEAD
    + """
for at = 2, #ARGV, 2 do
  local id = ARGV[at]
  local found = redis.call('HMGET', call(id), 'owner', 'second')
  if found[1] == ARGV[1] then
    redis.call('HSET', call(id), 'progress', ARGV[at + 1])
    redis.call('ZADD', leases, 0, id)
  elseif found[2] == ARGV[1] then vacate(id) end
end
redis.call('PUBLISH', base, 'look')
"""
)

# ARGV: ids. Returns dumps.
READ: Final = (
    _HEAD
    + """
local found = {}
for at, id in ipairs(ARGV) do found[at] = dump(id) end
return found
"""
)

# ARGV: an id or anything, the digest of a handle. Returns a dump.
FIND: Final = (
    _HEAD
    + """
if redis.call('EXISTS', call(ARGV[1])) == 1 then return dump(ARGV[1]) end
local id = redis.call('GET', base .. ':handle:' .. ARGV[2])
return id and dump(id)
"""
)

# ARGV: a reason, ids. Wants calls to end that are open; returns those that nobody wanted to end.
WANT: Final = (
    _HEAD
    + """
local wanted = {}
for at = 2, #ARGV do
  local id = ARGV[at]
  local found = redis.call('HMGET', call(id), 'owner', 'ended')
  if found[1] and not found[2] and redis.call('HSETNX', call(id), 'wanted', ARGV[1]) == 1 then
    wanted[#wanted + 1] = id
    redis.call('PUBLISH', base, id)
  end
end
return wanted
"""
)
