#!/bin/sh
# Installs Chromium for the browser tests where that is one command, and says what to do elsewhere.
set -eu
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  apt-get update -qq
  exec env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
fi
echo "The browser tests need Chromium. Install it (Debian: sudo apt-get install chromium)," >&2
echo "or name another one: CHROMIUM=/path/to/chrome make test" >&2
exit 1
