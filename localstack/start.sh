#!/usr/bin/env bash
# Starts LocalStack and prints its endpoint. Safe to repeat: leaves a running instance alone.
# See lib.sh for the variables; any variable of LocalStack may be set, too (DEBUG=1, LAMBDA_KEEPALIVE_MS=...).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
port=${GUST_LOCALSTACK_PORT:-4566}
wait_s=${GUST_LOCALSTACK_WAIT:-180}
mode=${GUST_LOCALSTACK_MODE:-auto}
t=$SECONDS

# 1. already up?
if [ -s "$state/pid" ] && is_ours "$(cat "$state/pid")"; then
  url=$(cat "$state/endpoint" 2>/dev/null || true)
  if [ -n "$url" ] && health "$url" >/dev/null; then say "already running at $url, pid $(cat "$state/pid")"; echo "$url"; exit 0; fi
  die "pid $(cat "$state/pid") is alive but does not answer at $url; run $here/stop.sh first"
fi
if [ "$port" = 0 ]; then
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
fi
url=http://127.0.0.1:$port

# 2. as a container, where Docker has everything already
docker_ready() {
  command -v docker >/dev/null && timeout 20 docker info >/dev/null 2>&1 && timeout 20 docker compose version >/dev/null 2>&1 || return 1
  local image
  for image in "${docker_images[@]}"; do docker image inspect "$image" >/dev/null 2>&1 || return 1; done
}
case $mode in
auto) if docker_ready; then mode=docker; else mode=process; fi ;;
docker) docker_ready || die "GUST_LOCALSTACK_MODE=docker needs a Docker daemon with compose and: ${docker_images[*]} (docker pull each)" ;;
process) ;;
*) die "GUST_LOCALSTACK_MODE=$mode: expected auto, process or docker" ;;
esac
mkdir -p "$state"
if [ "$mode" = docker ]; then
  if health "$url" >/dev/null && [ ! -e "$state/docker" ]; then die "port $port is served by something that this script did not start"; fi
  GUST_LOCALSTACK_PORT=$port docker compose -p gust-localstack -f "$here/compose.yaml" up --detach --wait --wait-timeout "$wait_s" >&2
  echo "$url" > "$state/endpoint"; touch "$state/docker"
  say "ready at $url as a container after $(took "$t")"
  echo "$url"; exit 0
fi
if health "$url" >/dev/null; then die "port $port is served by something that this script did not start (GUST_LOCALSTACK_PORT=0 takes a free one)"; fi

# 3. as a process
"$here/install.sh"
mkdir -p "$state"/{root,tmp}
DYNAMODB_LOCAL_DIR=$(cat "$cache/dynamodb-local.path")
export DYNAMODB_LOCAL_DIR FILESYSTEM_ROOT=$state/root TMPDIR=$state/tmp
export HOSTKIT_PYTHON=${HOSTKIT_PYTHON:-$lambda_python/bin/python3}
export GATEWAY_LISTEN=127.0.0.1:$port LOCALSTACK_HOST=${LOCALSTACK_HOST:-localhost:$port} SQS_ENDPOINT_STRATEGY=${SQS_ENDPOINT_STRATEGY:-path}
export OVERRIDE_IN_DOCKER=0 SKIP_SSL_CERT_DOWNLOAD=1 DISABLE_EVENTS=1 DNS_ADDRESS=0 # nothing looks outside
export PROVIDER_OVERRIDE_DYNAMODB=${PROVIDER_OVERRIDE_DYNAMODB:-v2} # its streams need no Kinesis server from npm
export LAMBDA_RUNTIME_EXECUTOR=process LAMBDA_SYNCHRONOUS_CREATE=${LAMBDA_SYNCHRONOUS_CREATE:-1}
export DYNAMODB_IN_MEMORY=${DYNAMODB_IN_MEMORY:-1} DYNAMODB_REMOVE_EXPIRED_ITEMS=${DYNAMODB_REMOVE_EXPIRED_ITEMS:-1}
export LAMBDA_EVENT_SOURCE_MAPPING_POLL_INTERVAL_SEC=${LAMBDA_EVENT_SOURCE_MAPPING_POLL_INTERVAL_SEC:-0.01}
export CFN_IGNORE_UNSUPPORTED_RESOURCE_TYPES=${CFN_IGNORE_UNSUPPORTED_RESOURCE_TYPES:-0} # 1 fakes them; our stage has none
cd "$state"
setsid "$venv/bin/python" -m localstack.runtime.main >"$state/log" 2>&1 </dev/null 9>&- &
pid=$!
echo "$pid" > "$state/pid"
echo "$url" > "$state/endpoint"
for _ in $(seq "$((wait_s * 4))"); do
  if ! kill -0 "$pid" 2>/dev/null; then tail -20 "$state/log" >&2; rm -f "$state/pid"; die "LocalStack ended; its log is $state/log"; fi
  if grep -qx 'Ready.' "$state/log" && health "$url" >/dev/null; then
    say "ready at $url, pid $pid, after $(took "$t"); log $state/log"
    echo "$url"; exit 0
  fi
  sleep 0.25
done
tail -20 "$state/log" >&2
"$here/stop.sh" >&2 || true
die "not ready within $wait_s s; its log is $state/log"
