#!/usr/bin/env bash
# The end-to-end suite on a LocalStack of its own, beside any that `make localstack` started. Arguments go to `go test`.
#   GUST_LOCALSTACK_KEEP=1   leave it up; the next run then deploys only what has changed
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
export GUST_LOCALSTACK=1 GUST_LOCALSTACK_MODE=process # the cases look into the functions' processes
export GUST_LOCALSTACK_STATE=${GUST_LOCALSTACK_TEST_STATE:-$cache/state-test} GUST_LOCALSTACK_PORT=0
[ "${GUST_LOCALSTACK_KEEP:-}" = 1 ] || trap '"$here/stop.sh"' EXIT
cd "$(dirname "$here")"
go test ./localstack/e2e -count=1 -v -timeout 45m -parallel 40 "$@"
