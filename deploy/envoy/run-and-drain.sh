#!/usr/bin/env bash
# Runs Envoy with the given arguments. At SIGTERM or SIGINT Envoy ends only when nobody waits for an
# answer any more: first it answers so that load balancers and kept connections look for another one,
# then it accepts no connection, then requests in flight end. Needs bash, and nothing else.
#
#   ENVOY         the program                                             (envoy)
#   ENVOY_ADMIN   its admin interface                                     (127.0.0.1:9901)
#   NOTICE_S      how long load balancers take to notice that it drains   (0)
#   DRAIN_S       how long requests in flight may take                    (20)
set -u
admin=${ENVOY_ADMIN:-127.0.0.1:9901}

# ask METHOD PATH: print the answer of the admin interface.
ask() {
  {
    exec 3<>"/dev/tcp/${admin%:*}/${admin##*:}" || return 1
  } 2>/dev/null
  printf '%s %s HTTP/1.1\r\nhost: admin\r\ncontent-length: 0\r\nconnection: close\r\n\r\n' "$1" "$2" >&3
  while IFS= read -r line <&3; do printf '%s\n' "$line"; done
  exec 3>&-
}

is_busy() {
  [[ $(ask GET '/stats?filter=^http.ingress_http.downstream_rq_active$') =~ rq_active:\ [1-9] ]]
}

drain() {
  trap '' TERM INT
  ask POST /healthcheck/fail >/dev/null
  sleep "${NOTICE_S:-0}"
  ask POST '/drain_listeners?inboundonly' >/dev/null
  local end=$((SECONDS + ${DRAIN_S:-20})) quiet=0
  # A request on a connection that was kept may come while nobody else waits.
  while ((quiet < 3 && SECONDS < end)); do
    if is_busy; then quiet=0; else quiet=$((quiet + 1)); fi
    sleep 0.1
  done
  kill -TERM "$envoy" 2>/dev/null
}

trap drain TERM INT
"${ENVOY:-envoy}" "$@" &
envoy=$!
wait "$envoy"
code=$?
# A signal has interrupted that; the trap has drained.
while kill -0 "$envoy" 2>/dev/null; do
  wait "$envoy"
  code=$?
done
exit "$code"
