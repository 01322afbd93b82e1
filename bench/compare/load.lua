-- For wrk: what is posted, and one line of JSON at the end.
--
--   wrk ... URL -- BODY_FILE [FIRST COUNT]
--
-- With numbers each request has another key of so many, sk-0 and on, in an order that hops about.
local HOP = 7919

function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.method = "POST"
  wrk.body = file:read("*a")
  file:close()
  if args[2] then
    local first, count, sent = tonumber(args[2]), tonumber(args[3]), 0
    request = function()
      local key = (first + sent * HOP) % count
      wrk.headers["Authorization"] = string.format("Bearer sk-%d", key)
      sent = sent + 1
      return wrk.format()
    end
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "seconds": %.6f, "p50_ms": %.4f, "p99_ms": %.4f, "failed": %d}\n',
    summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
