#!/bin/sh
# Installs wrk for the benchmark where that is one command, and says what to do elsewhere.
set -eu
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  apt-get update -qq
  exec env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends wrk >/dev/null
fi
echo "The benchmark needs wrk. Install it: sudo apt-get install wrk, or brew install wrk" >&2
exit 1
