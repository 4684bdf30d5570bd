#!/usr/bin/env bash
# Runs cfn-lint over the templates of every stage (make lint-infra). Installs it into a venv of its own the first time.
#   GUST_CFN_LINT  venv to use (default: ${XDG_CACHE_HOME:-~/.cache}/gust/cfn-lint)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
version=1.51.0
venv=${GUST_CFN_LINT:-${XDG_CACHE_HOME:-$HOME/.cache}/gust/cfn-lint}
if [ "$("$venv/bin/cfn-lint" --version 2>/dev/null || true)" != "cfn-lint $version" ]; then
  command -v python3 >/dev/null || { echo 'lint.sh: python3 with venv is missing: apt-get install python3-venv' >&2; exit 1; }
  python3 -m venv --clear "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "cfn-lint==$version"
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
# Synthesised by the tests, with placeholders for the functions: nothing else has to be built.
go test ./stacks -count=1 -run TestEveryVariantSynthesises -args -out "$out" >/dev/null
"$venv/bin/cfn-lint" --config-file .cfnlintrc --regions us-east-1 eu-west-1 -- "$out"/*/*.template.json
echo "cfn-lint $version: $(ls "$out"/*/*.template.json | wc -l) templates are clean"
