#!/usr/bin/env bash
# Ends the LocalStack that start.sh started, with its DynamoDB Local and its functions. Its state is in
# memory, so this forgets everything deployed to it.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
if [ -e "$state/docker" ]; then
  docker compose -p gust-localstack -f "$here/compose.yaml" down --volumes >&2
  rm -f "$state/docker" "$state/endpoint"
fi
[ -s "$state/pid" ] || { say "not running"; exit 0; }
pid=$(cat "$state/pid")
is_ours "$pid" || { rm -f "$state/pid" "$state/endpoint"; say "not running"; exit 0; }
descendants() { local c; for c in $(cat /proc/"$1"/task/*/children 2>/dev/null); do echo "$c"; descendants "$c"; done; }
children=$(descendants "$pid")
kill -TERM "$pid"
for _ in $(seq 60); do kill -0 "$pid" 2>/dev/null || break; sleep 0.25; done
kill -KILL "$pid" 2>/dev/null || true
for c in $children; do kill -KILL "$c" 2>/dev/null || true; done # what it left behind
rm -f "$state/pid" "$state/endpoint"
rm -rf "$state/tmp" "$state/root" "$state/cdk.out" "$state"/scratch-*
say "stopped $pid"
