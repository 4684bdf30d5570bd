#!/usr/bin/env bash
# Starts LocalStack, builds the functions for this machine and deploys the CDK app with stage "localstack":
# the very same app as on AWS. Safe to repeat; then it deploys what has changed. Prints the endpoint.
#   up.sh [more `cdk deploy` arguments]
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
root=$(dirname "$here")
arch=$(go env GOARCH 2>/dev/null) || die "go is missing: install Go as go.mod demands"
for tool in node npm; do
  command -v "$tool" >/dev/null || die "$tool is missing (the CDK needs it): apt-get install --no-install-recommends nodejs npm"
done
t0=$SECONDS
url=$("$here/start.sh")
vars=$("$here/env.sh")
eval "$vars"
cdk=$root/infra/node_modules/.bin/cdk

# npm and bootstrap wait most of the time: beside them, compile
say "building the functions and the CDK app (the first build of the CDK app takes minutes)"
(
  set -e
  if [ ! -x "$cdk" ] || [ "$root/infra/package-lock.json" -nt "$root/infra/node_modules/.package-lock.json" ]; then
    retry npm --prefix "$root/infra" ci --no-audit --no-fund --loglevel=error >&2 || die "npm ci in infra failed; see above"
  fi
  if ! "$here/aws" cloudformation describe-stacks --stack-name CDKToolkit >/dev/null 2>&1; then
    cd "$state" # away from cdk.json: bootstrapping needs no app
    "$cdk" bootstrap --no-notices aws://000000000000/us-east-1 >"$state/bootstrap.log" 2>&1 ||
      { tail -20 "$state/bootstrap.log" >&2; die "cdk bootstrap failed; its log is $state/bootstrap.log"; }
    say "bootstrapped"
  fi
) &
preparing=$!
t=$SECONDS
make --no-print-directory -C "$root" lambdas ARCH="$arch" >&2 || { kill "$preparing" 2>/dev/null || true; die "the functions do not build; see above"; }
(cd "$root/infra" && go build -o "$root/dist/cdkapp" .) || { kill "$preparing" 2>/dev/null || true; die "the CDK app does not build; see above"; }
say "built in $(took "$t")"
wait "$preparing" || exit 1

say "deploying"
t=$SECONDS
cd "$root"
rm -rf "$state/cdk.out" # it keeps the zips of every earlier deployment
if ! "$cdk" deploy --all --app "$root/dist/cdkapp" --context stage=localstack --output "$state/cdk.out" \
  --no-notices --require-approval never --method direct --progress events --ci "$@" >"$state/deploy.log" 2>&1; then
  tail -40 "$state/deploy.log" >&2
  die "cdk deploy failed; its log is $state/deploy.log, LocalStack's is $state/log. After a failed first deployment: make localstack-down"
fi
say "deployed in $(took "$t"); all of it took $(took "$t0")"
echo "$url"
