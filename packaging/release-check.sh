#!/usr/bin/env bash
# Builds a release again from the commit alone, in another folder, under another umask and time zone, and compares the
# checksums (make release-check VERSION=x, after make release).
#   FRESH=1  with an empty build cache, so that every package is compiled again (many minutes)
#   COMMIT   default HEAD
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=${1:-}
version=${version#v}
sums=dist/release/$version/SHA256SUMS
[ -f "$sums" ] || { echo "release-check: error: $sums is missing: make release VERSION=$version" >&2; exit 1; }
commit=${COMMIT:-HEAD}
dir=$(mktemp -d "${TMPDIR:-/tmp}/gust-release-check-XXXXXX")
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
git archive "$commit" | tar -x -C "$dir"
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct "$commit")
export SOURCE_DATE_EPOCH
[ "${FRESH:-}" != 1 ] || export GOCACHE=$dir/.cache
# Of what was made only; a release may have been asked for fewer platforms.
targets=$(sed -n "s/.*  gust_${version//./\\.}_\([a-z]*\)_\([a-z0-9]*\)\.tar\.gz$/\1\/\2/p" "$sums" | paste -sd,)
lambdas=$(sed -n "s/.*  gust-lambda_${version//./\\.}_linux_\([a-z0-9]*\)\.tar\.gz$/\1/p" "$sums" | paste -sd,)
(
  cd "$dir"
  umask 077
  export TZ=Pacific/Auckland LC_ALL=C
  go run ./packaging/release -version "$version" -out "$dir/out" -allow-dirty -targets "$targets" -lambdas "$lambdas"
)
if ! diff "$sums" "$dir/out/SHA256SUMS"; then
  echo "release-check: the second build of $commit differs; was the first of the same commit and Go version?" >&2
  exit 1
fi
echo "release-check: $(wc -l <"$sums") archives, the same bytes twice"
