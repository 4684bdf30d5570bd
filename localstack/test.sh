#!/usr/bin/env bash
# The end-to-end suite on a LocalStack of its own, beside any that `make localstack` started. Arguments go to `go test`;
# without any, the adapters' suites that need AWS's services run first.
#   GUST_LOCALSTACK_KEEP=1       leave it up; the next run then deploys only what has changed
#   GUST_LOCALSTACK_DEPLOYED=1   with a LocalStack kept so: deploy nothing
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
export GUST_LOCALSTACK=1 GUST_LOCALSTACK_MODE=process # the cases look into the functions' processes
export GUST_LOCALSTACK_STATE=${GUST_LOCALSTACK_TEST_STATE:-$cache/state-test} GUST_LOCALSTACK_PORT=0
[ "${GUST_LOCALSTACK_KEEP:-}" = 1 ] || trap '"$here/stop.sh"' EXIT
cd "$(dirname "$here")"
if [ $# -eq 0 ] && [ "${GUST_LOCALSTACK_KEEP:-}" != 1 ]; then
  say "the adapters' own suites, on LocalStack without a deployment"
  t=$SECONDS
  url=$("$here/start.sh")
  # shellcheck disable=SC2046 # one package a word
  GUST_AWS_ENDPOINT=$url go test -count=1 -p 1 $(go list -f '{{.ImportPath}} {{join .TestImports " "}} {{join .XTestImports " "}}' ./internal/... |
    awk '/internal\/awsmeter\/awstest/ {print $1}')
  "$here/stop.sh"
  say "the adapters' own suites took $(took "$t")"
fi
go test ./localstack/e2e -count=1 -v -timeout 45m -parallel 40 "$@"
say "comparing what the functions asked of AWS with their roles, which LocalStack does not enforce"
(cd infra && GUST_CALLS=$GUST_LOCALSTACK_STATE/calls.json GUST_TEMPLATE=$GUST_LOCALSTACK_STATE/cdk.out/gust-localstack-control.template.json \
  go test ./cfn -run TestCallsOfTheDeployment -count=1 -v)
