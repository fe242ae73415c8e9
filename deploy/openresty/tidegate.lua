-- Pools of Tidegate in nginx with Lua (OpenResty, or Debian's nginx with libnginx-mod-http-lua), pulled and never pushed.
--
--   one worker:   GET /v1/delta, which waits  ->  each pool, then its version, into the shared dict  ->  POST /v1/ack
--   every worker: at a request, the pool's version in the dict is another than mine?  ->  build its table anew
--
-- All workers read the one dict, so that what is acknowledged is what all of them serve from the next request on, and a
-- reload of nginx finds it as it was. Whatever is wrong with Tidegate or on the way (nothing, garbage, 503) leaves the dict
-- alone: requests go to the last known endpoints. Nothing is needed beside nginx's Lua module.
--
-- What stands in the dict:
--   p:ID  one line "TAG", then one "ADDRESS:PORT WEIGHT r|d" for each endpoint (ready, draining)
--   v:ID  the version of p:ID, a number; written after it
--   m:ID  since when a list lacks the pool, which is kept for a while
--   h     one line "HOST PATH POOL" for each host; hv its version. It is made of hl, what Tidegate lists, and hh, what a new
--         list lacks and is kept for a while, since mh
--   s:*   what the status page shows: index, contact, server, error, ...
--   puller  the worker that pulls; another one that finds it is not this one stops

local balancer = require "ngx.balancer"

local ngx = ngx
local find, sub, byte, format, gmatch, match = string.find, string.sub, string.byte, string.format, string.gmatch, string.match
local concat, floor, min, max = table.concat, math.floor, math.min, math.max

local M = { version = "1" }

-- Set by init, read by all workers.
local options
local dict

local DEFAULTS = {
  servers = nil, -- { "http://127.0.0.1:8500", ... }: asked in turn when one fails
  gateway = nil, -- the name under which this gateway acknowledges; none: it does not
  token_file = nil, -- a file with the token for Tidegate
  query = "", -- a filter: "prefix=east/shop/", "namespace=shop", "id=A&id=B"
  dict = "tidegate", -- lua_shared_dict NAME SIZE
  state_file = nil, -- where the pools are kept for a start while Tidegate is away
  wait_seconds = 10, -- how long Tidegate may keep a request that waits; at most 10
  hold_seconds = 600, -- how long a pool is kept that a new list lacks
  fail_seconds = 5, -- how long an endpoint is passed over that a request could not be sent to
  tries = 3, -- endpoints that one request is tried on
}

-- A worker that ends is not kept waiting longer than this.
local SLICE_MS = 500
local MAX_BODY = 256 * 1024 * 1024
local ACK_POOLS = 2000
local ACK_EVERY = 60
local KEEP_EVERY = 5

---------------------------------------------------------------------------------------------------- JSON, as it is needed

-- Reads JSON values from a text that is complete. Errors are raised as strings; `pcall` them.
local decode_value

local ESCAPES = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", ['"'] = '"', ["\\"] = "\\", ["/"] = "/" }

local function fail(at, what)
  error(format("byte %d: %s", at, what), 0)
end

local function skip(text, at)
  return find(text, "[^ \t\r\n]", at) or #text + 1
end

local function decode_string(text, at)
  local finish = find(text, '["\\]', at + 1)
  if not finish then fail(at, "a string without end") end
  if byte(text, finish) == 34 then return sub(text, at + 1, finish - 1), finish + 1 end
  local parts, start = {}, at + 1
  while true do
    parts[#parts + 1] = sub(text, start, finish - 1)
    if byte(text, finish) == 34 then return concat(parts), finish + 1 end
    local escape = sub(text, finish + 1, finish + 1)
    if escape == "u" then
      -- No text that is used here has such a character; it must only not confuse what follows.
      if not find(text, "^%x%x%x%x", finish + 2) then fail(finish, "a bad escape") end
      parts[#parts + 1] = "?"
      start = finish + 6
    else
      if not ESCAPES[escape] then fail(finish, "a bad escape") end
      parts[#parts + 1] = ESCAPES[escape]
      start = finish + 2
    end
    finish = find(text, '["\\]', start)
    if not finish then fail(at, "a string without end") end
  end
end

local function decode_object(text, at, depth)
  local object = {}
  at = skip(text, at + 1)
  if byte(text, at) == 125 then return object, at + 1 end
  while true do
    if byte(text, at) ~= 34 then fail(at, "a key is missing") end
    local key, value
    key, at = decode_string(text, at)
    at = skip(text, at)
    if byte(text, at) ~= 58 then fail(at, "a colon is missing") end
    value, at = decode_value(text, skip(text, at + 1), depth)
    object[key] = value
    at = skip(text, at)
    local separator = byte(text, at)
    if separator == 125 then return object, at + 1 end
    if separator ~= 44 then fail(at, "a comma is missing") end
    at = skip(text, at + 1)
  end
end

-- `each` takes an element in place of the list, which then stays empty: a long list need not be in memory as tables.
local function decode_list(text, at, depth, each)
  local list = {}
  at = skip(text, at + 1)
  if byte(text, at) == 93 then return list, at + 1 end
  while true do
    local value
    value, at = decode_value(text, at, depth)
    if each then each(value) else list[#list + 1] = value end
    at = skip(text, at)
    local separator = byte(text, at)
    if separator == 93 then return list, at + 1 end
    if separator ~= 44 then fail(at, "a comma is missing") end
    at = skip(text, at + 1)
  end
end

function decode_value(text, at, depth)
  local first = byte(text, at)
  if depth > 16 then fail(at, "too deep") end
  if first == 34 then return decode_string(text, at) end
  if first == 123 then return decode_object(text, at, depth + 1) end
  if first == 91 then return decode_list(text, at, depth + 1) end
  local number = match(text, "^-?%d+%.?%d*[eE]?[-+]?%d*", at)
  if number then return tonumber(number), at + #number end
  for word, value in pairs { ["true"] = true, ["false"] = false } do
    if sub(text, at, at + #word - 1) == word then return value, at + #word end
  end
  if sub(text, at, at + 3) == "null" then return nil, at + 4 end
  fail(at, "no value")
end

-- An object whose lists at the names in `each` are given to functions, element by element.
local function decode_document(text, each)
  local at = skip(text, 1)
  if byte(text, at) ~= 123 then fail(at, "no object") end
  local object = {}
  at = skip(text, at + 1)
  while byte(text, at) ~= 125 do
    local key, value
    if byte(text, at) ~= 34 then fail(at, "a key is missing") end
    key, at = decode_string(text, at)
    at = skip(text, at)
    if byte(text, at) ~= 58 then fail(at, "a colon is missing") end
    at = skip(text, at + 1)
    if each[key] then
      if byte(text, at) ~= 91 then fail(at, key .. " is no list") end
      value, at = decode_list(text, at, 1, each[key])
    else
      value, at = decode_value(text, at, 1)
    end
    object[key] = value
    at = skip(text, at)
    if byte(text, at) == 44 then at = skip(text, at + 1) elseif byte(text, at) ~= 125 then fail(at, "a comma is missing") end
  end
  if skip(text, at + 1) <= #text then fail(at, "something follows the object") end
  return object
end

local function quote(text)
  return '"' .. tostring(text):gsub('[%c"\\\127-\255]', function(it) return format("\\u%04x", byte(it)) end) .. '"'
end

---------------------------------------------------------------------------------------------------- HTTP over a raw socket

-- Tidegate's answers as they are needed: status, headers in lower case, whole body.
local Connection = {}
Connection.__index = Connection

local function exiting()
  return ngx.worker.exiting() or dict:get("puller") ~= ngx.worker.pid()
end

-- Receives with `how`, in slices, so that a worker that is to end is not kept by an answer that is waited for.
function Connection:receive(how, deadline)
  local parts = {}
  local wanted = how
  while true do
    local data, why, partial = self.socket:receive(wanted)
    if data then
      parts[#parts + 1] = data
      return concat(parts)
    end
    if partial and partial ~= "" then
      parts[#parts + 1] = partial
      if type(wanted) == "number" then wanted = wanted - #partial end
    end
    if why ~= "timeout" then return nil, why end
    if ngx.worker.exiting() then return nil, "the worker ends" end
    if ngx.now() > deadline then return nil, "no answer in time" end
  end
end

function Connection.open(base)
  local scheme, host, port = match(base, "^(https?)://(%[?[%w%.%-:_]-%]?):(%d+)$")
  local socket = ngx.socket.tcp()
  socket:settimeouts(2000, 5000, SLICE_MS)
  local connected, why = socket:connect(host, tonumber(port))
  if not connected then return nil, "cannot connect: " .. why end
  if scheme == "https" then
    socket:settimeout(5000)
    local shaken
    shaken, why = socket:sslhandshake(nil, host, true)
    if not shaken then return nil, "no TLS: " .. why end
    socket:settimeouts(2000, 5000, SLICE_MS)
  end
  return setmetatable({ socket = socket, host = host .. ":" .. port, base = base }, Connection)
end

function Connection:body(headers, deadline)
  if headers["transfer-encoding"] == "chunked" then
    local parts, total = {}, 0
    while true do
      local line, why = self:receive("*l", deadline)
      local size = line and tonumber(match(line, "^%x+") or "", 16)
      if not size then return nil, why or "a bad chunk" end
      total = total + size
      if total > MAX_BODY then return nil, "too long an answer" end
      if size > 0 then
        local part
        part, why = self:receive(size, deadline)
        if not part then return nil, why end
        parts[#parts + 1] = part
      end
      line, why = self:receive("*l", deadline)
      if line ~= "" then return nil, why or "a bad chunk" end
      if size == 0 then return concat(parts) end
    end
  end
  local length = tonumber(headers["content-length"] or "")
  if not length or length > MAX_BODY then return nil, "an answer of no length, or too long a one" end
  if length == 0 then return "" end
  return self:receive(length, deadline)
end

function Connection:request(method, path, headers, body, seconds)
  local deadline = ngx.now() + seconds
  local lines = { method .. " " .. path .. " HTTP/1.1", "Host: " .. self.host, "User-Agent: tidegate-lua/" .. M.version }
  if options.token then lines[#lines + 1] = "Authorization: Bearer " .. options.token end
  for name, value in pairs(headers) do lines[#lines + 1] = name .. ": " .. value end
  if body then lines[#lines + 1] = "Content-Length: " .. #body end
  local sent, why = self.socket:send(concat(lines, "\r\n") .. "\r\n\r\n" .. (body or ""))
  if not sent then return nil, "cannot send: " .. why end
  local line
  line, why = self:receive("*l", deadline)
  if not line then return nil, why end
  local status = tonumber(match(line, "^HTTP/1%.[01] (%d%d%d)") or "")
  if not status then return nil, "no HTTP" end
  local answer = { status = status, headers = {}, body = "" }
  for _ = 1, 100 do
    line, why = self:receive("*l", deadline)
    if not line then return nil, why end
    if line == "" then break end
    local name, value = match(line, "^([^:%s]+):%s*(.-)%s*$")
    if not name then return nil, "a bad header" end
    answer.headers[name:lower()] = value
  end
  if status ~= 204 and status ~= 304 then
    answer.body, why = self:body(answer.headers, deadline)
    if not answer.body then return nil, why end
  end
  return answer
end

function Connection:close()
  self.socket:close()
end

-- What the worker that pulls has: in it alone, so that a new worker begins with a list.
local pull = { index = nil, pending = {}, acked_at = 0, kept_at = 0, dirty = false, hosts_tag = nil }

---------------------------------------------------------------------------------------------------- pools and the dict

-- A pool as it is to stand in the dict, from Tidegate's JSON: its id, its generation if it has one, and the lines of its
-- endpoints. Raises what is wrong with it.
local function read_pool(pool)
  if type(pool) ~= "table" or type(pool.id) ~= "string" or type(pool.endpoints) ~= "table" then
    error("no pool", 0)
  end
  local lines = {}
  for _, it in ipairs(pool.endpoints) do
    local address, port, weight = it.address, it.port, it.weight
    if type(address) ~= "string" or not find(address, "^[%x%.:]+$") or type(port) ~= "number" or port < 1 or port > 65535
      or type(weight) ~= "number" or weight < 1 or (it.state ~= "ready" and it.state ~= "draining") then
      error("an endpoint of " .. pool.id .. " that is none", 0)
    end
    if not it.protocol or it.protocol == "TCP" then
      if find(address, ":", 1, true) then address = "[" .. address .. "]" end
      lines[#lines + 1] = format("\n%s:%d %d %s", address, port, weight, it.state == "ready" and "r" or "d")
    end
  end
  return { id = pool.id, generation = pool.traffic_generation, lines = concat(lines) }
end

-- Puts one pool in, then its version. Gives why not.
local function put(id, text)
  if dict:get("p:" .. id) ~= text then
    local stored, why = dict:safe_set("p:" .. id, text)
    if not stored then return why end
    -- Never the number that a worker may have seen of a pool that was removed and came back.
    local version = dict:incr("s:versions", 1, 0)
    stored, why = dict:safe_set("v:" .. id, version)
    if not stored then return why end
  end
  dict:delete("m:" .. id)
end

local function remove(id)
  dict:delete("v:" .. id)
  dict:delete("p:" .. id)
  dict:delete("m:" .. id)
end

local function pool_ids()
  local ids = {}
  for _, key in ipairs(dict:get_keys(0)) do
    if sub(key, 1, 2) == "p:" then ids[#ids + 1] = sub(key, 3) end
  end
  return ids
end

-- Addresses of an entry of the dict.
local function addresses(text)
  local list = {}
  for address in gmatch(text, "\n([^ ]+) ") do list[#list + 1] = address end
  return list
end

-- A list lacks pools that are here: one of another life of Tidegate, or of another Tidegate. They are kept for a while,
-- without what other pools have now.
local function hold_missing(listed)
  local taken = {}
  for id in pairs(listed) do
    for _, address in ipairs(addresses(dict:get("p:" .. id) or "")) do taken[address] = true end
  end
  local held = 0
  for _, id in ipairs(pool_ids()) do
    if not listed[id] then
      local text, kept = dict:get("p:" .. id), {}
      for line in gmatch(text, "[^\n]+") do
        if #kept == 0 or not taken[match(line, "^[^ ]+")] then kept[#kept + 1] = line end
      end
      local since = dict:get("m:" .. id) or ngx.now()
      put(id, concat(kept, "\n"))
      dict:safe_set("m:" .. id, since)
      held = held + 1
    end
  end
  dict:set("s:held", held)
end

-- The hosts that are served: those that are listed, and those that are held.
local function compose_hosts()
  local lines, taken = {}, {}
  for line in gmatch(dict:get("hl") or "", "[^\n]+") do
    lines[#lines + 1] = line
    taken[match(line, "^[^ ]+ [^ ]+")] = true
  end
  for line in gmatch(dict:get("hh") or "", "[^\n]+") do
    if not taken[match(line, "^[^ ]+ [^ ]+")] then lines[#lines + 1] = line end
  end
  local text = concat(lines, "\n")
  if dict:get("h") == text then return end
  local stored, why = dict:safe_set("h", text)
  if not stored then return "the hosts do not fit into lua_shared_dict " .. options.dict .. ": " .. why end
  dict:set("hv", dict:incr("s:versions", 1, 0))
  pull.dirty = true
end

-- Takes a list of hosts in. The first one of another life of Tidegate is as that of pools: what it lacks is kept for a while.
local function list_hosts(lines, boot)
  if dict:get("s:hosts_boot") ~= boot then
    local listed, held = {}, {}
    for _, line in ipairs(lines) do listed[match(line, "^[^ ]+ [^ ]+")] = true end
    for line in gmatch(dict:get("h") or "", "[^\n]+") do
      if not listed[match(line, "^[^ ]+ [^ ]+")] then held[#held + 1] = line end
    end
    dict:safe_set("hh", concat(held, "\n"))
    dict:set("mh", dict:get("mh") or ngx.now())
    if #held == 0 then dict:delete("mh") end
    dict:set("s:hosts_boot", boot)
  end
  local stored, why = dict:safe_set("hl", concat(lines, "\n"))
  if not stored then return "the hosts do not fit into lua_shared_dict " .. options.dict .. ": " .. why end
  return compose_hosts()
end

local function drop_expired()
  local since = dict:get("mh")
  if since and ngx.now() - since > options.hold_seconds then
    ngx.log(ngx.WARN, "tidegate: hosts that Tidegate no longer lists are no longer held")
    dict:delete("hh")
    dict:delete("mh")
    compose_hosts()
  end
  if (dict:get("s:held") or 0) == 0 then return end
  local held = 0
  for _, key in ipairs(dict:get_keys(0)) do
    if sub(key, 1, 2) == "m:" then
      if ngx.now() - dict:get(key) > options.hold_seconds then
        ngx.log(ngx.WARN, "tidegate: pool ", sub(key, 3), " is no longer held")
        remove(sub(key, 3))
      else
        held = held + 1
      end
    end
  end
  dict:set("s:held", held)
end

---------------------------------------------------------------------------------------------------- the state file

local function save()
  if not options.state_file then return end
  local parts = { "tidegate-lua 1\n" }
  for _, id in ipairs(pool_ids()) do
    parts[#parts + 1] = format("pool %s\n%s\n.\n", id, dict:get("p:" .. id))
  end
  local hosts = dict:get("h")
  if hosts then parts[#parts + 1] = "hosts\n" .. hosts .. "\n.\n" end
  parts[#parts + 1] = "end\n"
  local new = options.state_file .. ".new"
  local file, why = io.open(new, "w")
  if file then
    local written
    written, why = file:write(concat(parts))
    file:close()
    if written then
      written, why = os.rename(new, options.state_file)
      if written then return end
    end
  end
  ngx.log(ngx.ERR, "tidegate: the pools cannot be kept for the next start: ", why)
end

local function load()
  local file = options.state_file and io.open(options.state_file, "r")
  if not file then return end
  local text = file:read("*a")
  file:close()
  if sub(text, 1, 15) ~= "tidegate-lua 1\n" or sub(text, -4) ~= "end\n" then
    ngx.log(ngx.ERR, "tidegate: ", options.state_file, " is not whole and is not used")
    return
  end
  local count, at = 0, 16
  while true do
    local _, finish, id, pool = find(text, "^pool ([^\n]+)\n(.-)\n%.\n", at)
    if not finish then break end
    put(id, pool)
    count, at = count + 1, finish + 1
  end
  local hosts = match(text, "^hosts\n(.-)\n%.\nend\n", at)
  if hosts and dict:safe_set("h", hosts) then dict:set("hv", dict:incr("s:versions", 1, 0)) end
  ngx.log(ngx.NOTICE, "tidegate: ", count, " pools from ", options.state_file)
end

---------------------------------------------------------------------------------------------------- the puller

local function note(why)
  if dict:get("s:error") ~= why then
    if why then ngx.log(ngx.WARN, "tidegate: ", why, "; the last known pools are served") end
    if why then dict:set("s:error", why) else dict:delete("s:error") end
  end
end

-- Takes an answer of /v1/delta in, whole or not at all.
local function apply(body, is_list)
  local pools, etags, seen = {}, {}, 0
  local document = decode_document(body, {
    changed = function(pool)
      pools[#pools + 1] = read_pool(pool)
      seen = seen + 1
      -- Requests are not to wait for a long list.
      if seen % 50 == 0 then ngx.sleep(0.001) end
    end,
    etags = function(etag) etags[#etags + 1] = etag end,
  })
  if type(document.index) ~= "string" or type(document.removed) ~= "table" or not document.changed then
    error("no delta", 0)
  end
  if not is_list and match(document.index, "^(.*):") ~= match(pull.index, "^(.*):") then
    -- It knows nothing of what was asked for: what it has is to be listed, and what that lacks is held.
    pull.index = nil
    error("it is of another life than was asked for", 0)
  end
  local listed, refused = {}
  for at, pool in ipairs(pools) do
    listed[pool.id] = true
    local tag = pool.generation or etags[at] or ""
    local why = put(pool.id, (pool.generation and format("%d", tag) or tag) .. pool.lines)
    if why then
      refused = format("pool %s does not fit into lua_shared_dict %s: %s", pool.id, options.dict, why)
    else
      pull.pending[pool.id] = tag
    end
    if at % 200 == 0 then ngx.sleep(0.001) end
  end
  for _, id in ipairs(document.removed) do
    remove(id)
    pull.pending[id] = nil
  end
  if is_list then hold_missing(listed) end
  pull.dirty = pull.dirty or #pools > 0 or #document.removed > 0
  -- What did not fit is asked for again with the next list.
  pull.index = not refused and document.index or nil
  dict:set("s:index", document.index)
  dict:incr("s:generation", 1, 0)
  return refused
end

local function acknowledge(connection, why)
  if not options.gateway then return end
  local due = next(pull.pending) or ngx.now() - pull.acked_at > ACK_EVERY or why ~= pull.acked_error
  if not due then return end
  local applied, count = {}, 0
  for id, what in pairs(pull.pending) do
    applied[#applied + 1] = quote(id) .. ":" .. (type(what) == "number" and format("%d", what) or quote(what))
    pull.pending[id] = nil
    count = count + 1
    if count == ACK_POOLS then break end
  end
  local body = format('{"gateway":%s,"applied":{%s}%s}', quote(options.gateway), concat(applied, ","),
    why and ',"error":' .. quote(why) or "")
  local answer, failed = connection:request("POST", "/v1/ack", { ["Content-Type"] = "application/json" }, body, 5)
  if not answer then return failed end
  pull.acked_at, pull.acked_error = ngx.now(), why
  if answer.status >= 300 then
    local text = format("the acknowledgement is refused: %d %s", answer.status, sub(answer.body, 1, 200))
    if dict:get("s:ack_error") ~= text then ngx.log(ngx.ERR, "tidegate: ", text) end
    dict:set("s:ack_error", text)
  else
    dict:delete("s:ack_error")
    if next(pull.pending) then return acknowledge(connection, why) end
  end
end

local function filtered(path, first)
  if options.query == "" then return path end
  return path .. (first and "?" or "&") .. options.query
end

-- Asks once. Gives why that failed.
local function ask(connection)
  local path = "/v1/delta"
  if pull.index then
    path = filtered(format("/v1/delta?since=%s&wait=%ds", pull.index, options.wait_seconds))
  else
    path = filtered(path, true)
  end
  local answer, why = connection:request("GET", path, {}, nil, options.wait_seconds + 20)
  if not answer then return why end
  if exiting() then return end
  if answer.status == 410 then
    pull.index = nil
    return
  end
  if answer.status ~= 200 then return format("Tidegate says %d: %s", answer.status, sub(answer.body, 1, 200)) end
  local taken, refused = pcall(apply, answer.body, pull.index == nil)
  if not taken then return "an answer that cannot be used: " .. tostring(refused) end
  dict:set("s:contact", ngx.now())
  dict:set("s:state", answer.headers["tidegate-state"] or "unknown")
  note(refused)
  return acknowledge(connection, refused)
end

local function keep()
  if pull.dirty and ngx.now() - pull.kept_at > KEEP_EVERY then
    pull.dirty, pull.kept_at = false, ngx.now()
    save()
  end
end

-- Asks one server after the other with `turn` until this worker ends or another one pulls.
local function follow(which, turn)
  local connection, server, failures = nil, 1, 0
  while not exiting() do
    local base = options.servers[server]
    local why
    if not connection then connection, why = Connection.open(base) end
    if connection then why = turn(connection) end
    if why and not exiting() then
      if connection then
        connection:close()
        connection = nil
      end
      server = server % #options.servers + 1
      failures = failures + 1
      -- Another server may be well: it is asked at once, and only when all have failed is it said.
      if failures >= #options.servers then
        which(base .. ": " .. why)
        local pause = min(5, 0.1 * 2 ^ min(failures - #options.servers, 6)) * (0.5 + math.random() / 2)
        local finish = ngx.now() + pause
        while ngx.now() < finish and not exiting() do ngx.sleep(min(0.25, max(0.001, finish - ngx.now()))) end
      end
    else
      failures = 0
      dict:set("s:server", base)
    end
  end
  if connection then connection:close() end
end

-- Hosts change seldom; they are followed beside the pools.
local function ask_hosts(connection)
  local headers = { ["If-None-Match"] = pull.hosts_tag }
  local path = pull.hosts_tag and format("/v1/hosts?wait=%ds", options.wait_seconds) or "/v1/hosts"
  local answer, why = connection:request("GET", path, headers, nil, options.wait_seconds + 20)
  if not answer then return why end
  if exiting() or answer.status == 304 then return end
  if answer.status ~= 200 then return format("Tidegate says %d: %s", answer.status, sub(answer.body, 1, 200)) end
  local lines = {}
  local read, bad = pcall(decode_document, answer.body, {
    hosts = function(it)
      if type(it.host) ~= "string" or type(it.path_prefix) ~= "string" or type(it.pool) ~= "string"
        or find(it.host .. it.path_prefix .. it.pool, "%s") then
        error("no host", 0)
      end
      lines[#lines + 1] = it.host .. " " .. it.path_prefix .. " " .. it.pool
    end,
  })
  if not read or type(bad.hosts) ~= "table" then return "hosts that cannot be used: " .. tostring(bad) end
  why = list_hosts(lines, match(tostring(bad.index), "^(.+):") or "")
  if why then return why end
  pull.hosts_tag = answer.headers.etag
end

local function run(name, act)
  local started, why = ngx.timer.at(0, function(premature)
    if premature then return end
    local ended, failed = pcall(act)
    if not ended then ngx.log(ngx.ERR, "tidegate: ", name, " ended: ", failed) end
    if not exiting() then
      -- A fault of ours must not leave the gateway without news.
      ngx.sleep(1)
      run(name, act)
    end
  end)
  if not started then ngx.log(ngx.ERR, "tidegate: ", name, " does not start: ", why) end
end

---------------------------------------------------------------------------------------------------- balancing, in every worker

-- By id: version, ready endpoints with cumulative weights. Failures by address.
local tables, failures = {}, {}
local GOLDEN = 0.6180339887498949

local function build(id, version)
  local text = dict:get("p:" .. id)
  if not text then return nil end
  local peers, total, even, last = {}, 0, true, nil
  for address, port, weight in gmatch(text, "\n([^ \n]+):(%d+) (%d+) r") do
    weight = tonumber(weight)
    total = total + weight
    even = even and (not last or last == weight)
    last = weight
    peers[#peers + 1] = { host = address, port = tonumber(port), name = address .. ":" .. port, upto = total }
  end
  -- Workers and pools do not begin with the same endpoint.
  return { version = version, peers = peers, total = total, even = even, at = math.random() }
end

local function table_of(id)
  local version = dict:get("v:" .. id)
  if not version then
    tables[id] = nil
    return nil
  end
  local known = tables[id]
  if not known or known.version ~= version then
    known = build(id, version)
    tables[id] = known
  end
  return known
end

-- The next endpoint. An additive sequence of the golden ratio spreads the picks by weight as evenly as taking turns does.
local function next_peer(pool)
  local peers = pool.peers
  pool.at = (pool.at + (pool.even and 1 / #peers or GOLDEN)) % 1
  if pool.even then return min(floor(pool.at * #peers + 1e-9), #peers - 1) + 1 end
  local wanted, low, high = pool.at * pool.total, 1, #peers
  while low < high do
    local middle = floor((low + high) / 2)
    if peers[middle].upto > wanted then high = middle else low = middle + 1 end
  end
  return low
end

local function choose(pool, tried)
  local count, now = #pool.peers, ngx.now()
  local first = next_peer(pool)
  local spare
  for offset = 0, count - 1 do
    local peer = pool.peers[(first - 1 + offset) % count + 1]
    if not tried[peer.name] then
      local failed = failures[peer.name]
      if not failed or failed <= now then
        failures[peer.name] = nil
        return peer
      end
      spare = spare or peer
    end
  end
  -- All have failed lately: one of them is better than none.
  return spare
end

-- Hosts by name, each with its paths, the longest first.
local hosts = { version = nil, exact = {}, below = {} }

local function build_hosts(version)
  hosts = { version = version, exact = {}, below = {} }
  for host, path, pool in gmatch(dict:get("h") or "", "([^ \n]+) ([^ \n]+) ([^ \n]+)") do
    local into, name = hosts.exact, host
    if sub(host, 1, 2) == "*." then into, name = hosts.below, sub(host, 3) end
    into[name] = into[name] or {}
    table.insert(into[name], { path = path, pool = pool })
  end
  for _, kind in ipairs { hosts.exact, hosts.below } do
    for _, paths in pairs(kind) do
      table.sort(paths, function(one, other) return #one.path > #other.path end)
    end
  end
end

local function of_path(paths, uri)
  for _, it in ipairs(paths or {}) do
    local after = byte(uri, #it.path + 1)
    if it.path == "/" or (sub(uri, 1, #it.path) == it.path and (not after or after == 47)) then return it.pool end
  end
end

--- The pool of a host and path; nil for none.
function M.pool_of(host, uri)
  local version = dict:get("hv")
  if version ~= hosts.version then build_hosts(version) end
  host = (host or ""):lower()
  local exact = hosts.exact[host]
  if exact then return of_path(exact, uri) end
  local below = host
  while true do
    local dot = find(below, ".", 1, true)
    if not dot then return nil end
    below = sub(below, dot + 1)
    if hosts.below[below] then return of_path(hosts.below[below], uri) end
  end
end

local function refuse(status, text)
  ngx.status = status
  ngx.header["Content-Type"] = "text/plain"
  if status == 503 then ngx.header["Retry-After"] = 1 end
  ngx.say(text)
  return ngx.exit(status)
end

--- access_by_lua: finds the pool by host and path where $tidegate_pool is empty, and answers 404 or 503 where there is none.
function M.access()
  local id = ngx.var.tidegate_pool
  if not id or id == "" then
    id = M.pool_of(ngx.var.host, ngx.var.uri)
    if not id then return refuse(404, "no pool for this host and path") end
    ngx.var.tidegate_pool = id
  end
  local pool = table_of(id)
  if not pool then return refuse(503, "the pool is not known") end
  if #pool.peers == 0 then return refuse(503, "the pool has no endpoint that takes requests") end
end

--- balancer_by_lua: the endpoint of a request, another one where it could not be sent to the last.
function M.balance()
  local id = ngx.var.tidegate_pool
  local pool = id and table_of(id)
  if not pool or #pool.peers == 0 then
    ngx.log(ngx.ERR, "tidegate: no endpoint in the pool ", id or "(none: set $tidegate_pool)")
    return ngx.exit(ngx.ERROR)
  end
  local ctx = ngx.ctx
  local tried = ctx.tidegate_tried
  if not tried then
    tried = {}
    ctx.tidegate_tried = tried
    local more = min(options.tries, #pool.peers) - 1
    if more > 0 then balancer.set_more_tries(more) end
  elseif ctx.tidegate_last and balancer.get_last_failure() == "failed" then
    failures[ctx.tidegate_last] = ngx.now() + options.fail_seconds
  end
  local peer = choose(pool, tried) or pool.peers[next_peer(pool)]
  tried[peer.name] = true
  ctx.tidegate_last = peer.name
  local set, why = balancer.set_current_peer(peer.host, peer.port)
  if not set then
    ngx.log(ngx.ERR, "tidegate: ", peer.name, " is no peer: ", why)
    return ngx.exit(ngx.ERROR)
  end
end

---------------------------------------------------------------------------------------------------- what people call

local function status_of_pool(id)
  local text = dict:get("p:" .. id)
  if not text then return refuse(404, "no such pool") end
  ngx.header["Content-Type"] = "application/json"
  local endpoints = {}
  for address, weight, state in gmatch(text, "\n([^ \n]+) (%d+) ([rd])") do
    endpoints[#endpoints + 1] = format('{"endpoint":%s,"weight":%s,"state":"%s"}', quote(address), weight,
      state == "r" and "ready" or "draining")
  end
  ngx.say(format('{"id":%s,"tag":%s,"held":%s,"endpoints":[%s]}', quote(id), quote(match(text, "^[^\n]*")),
    dict:get("m:" .. id) and "true" or "false", concat(endpoints, ",")))
end

--- content_by_lua: what this gateway has and how fresh that is, as JSON; ?pool=ID one pool, as this gateway sees it.
function M.status()
  local args = ngx.req.get_uri_args(8)
  if type(args.pool) == "string" then return status_of_pool(args.pool) end
  local contact = dict:get("s:contact")
  local fields = {
    format('"gateway":%s', options.gateway and quote(options.gateway) or "null"),
    format('"pools":%d', #pool_ids()),
    format('"held":%d', dict:get("s:held") or 0),
    format('"index":%s', quote(dict:get("s:index") or "")),
    format('"generation":%d', dict:get("s:generation") or 0),
    format('"server":%s', quote(dict:get("s:server") or "")),
    format('"state":%s', quote(dict:get("s:error") and "stale" or dict:get("s:state") or "unknown")),
    format('"contact_age_seconds":%s', contact and format("%.3f", ngx.now() - contact) or "null"),
    format('"error":%s', dict:get("s:error") and quote(dict:get("s:error")) or "null"),
    format('"acknowledgement_error":%s', dict:get("s:ack_error") and quote(dict:get("s:ack_error")) or "null"),
    format('"hosts_error":%s', dict:get("s:hosts_error") and quote(dict:get("s:hosts_error")) or "null"),
    format('"puller":%d', dict:get("puller") or 0),
    format('"dict_free_bytes":%d', dict:free_space()),
  }
  ngx.header["Content-Type"] = "application/json"
  ngx.say("{" .. concat(fields, ",") .. "}")
end

local function check(given)
  local merged = {}
  for name in pairs(given) do
    if DEFAULTS[name] == nil and name ~= "servers" and name ~= "gateway" and name ~= "token_file" and name ~= "state_file" then
      error("tidegate: option " .. name .. " is unknown", 0)
    end
  end
  for name, value in pairs(DEFAULTS) do merged[name] = value end
  for name, value in pairs(given) do merged[name] = value end
  if type(merged.servers) ~= "table" or #merged.servers == 0 then
    error('tidegate: servers: name at least one, as { "http://127.0.0.1:8500" }', 0)
  end
  for _, base in ipairs(merged.servers) do
    if not match(base, "^https?://%[?[%w%.%-:_]-%]?:%d+$") then
      error("tidegate: servers: " .. tostring(base) .. " is none: write http://HOST:PORT", 0)
    end
  end
  if merged.wait_seconds < 1 or merged.wait_seconds > 10 then error("tidegate: wait_seconds: write 1 to 10", 0) end
  if merged.token_file then
    local file, why = io.open(merged.token_file, "r")
    if not file then error("tidegate: token_file: " .. why, 0) end
    merged.token = (file:read("*l") or ""):match("^%s*(.-)%s*$")
    file:close()
    if merged.token == "" then error("tidegate: token_file: " .. merged.token_file .. " is empty", 0) end
  end
  return merged
end

--- init_by_lua: takes the options, and the pools of the state file where the dict has none.
function M.init(given)
  options = check(given)
  dict = ngx.shared[options.dict]
  if not dict then error("tidegate: write lua_shared_dict " .. options.dict .. " 64m; into the http block", 0) end
  if #dict:get_keys(1) == 0 then load() end
end

--- init_worker_by_lua: one worker pulls.
function M.start()
  math.randomseed(ngx.now() * 1000 + ngx.worker.pid() * 7919)
  if ngx.worker.id() ~= 0 then return end
  dict:set("puller", ngx.worker.pid())
  run("the pull of pools", function()
    follow(note, function(connection)
      local why = ask(connection)
      drop_expired()
      keep()
      return why
    end)
  end)
  run("the pull of hosts", function()
    follow(function(why) dict:set("s:hosts_error", why) end, function(connection)
      local why = ask_hosts(connection)
      if not why then dict:delete("s:hosts_error") end
      return why
    end)
  end)
end

return M
