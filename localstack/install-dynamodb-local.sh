#!/usr/bin/env bash
# Fetches DynamoDB Local (the version pinned in pom.xml) and its dependencies from Maven Central, for the tests
# that run on it. Prints the folder. Safe to repeat: a second call takes no time.
#   GUST_DYNAMODB_LOCAL   the folder (default: gust/dynamodb-local-VERSION in the user's cache folder)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=$(sed -n '/<artifactId>DynamoDBLocal</,/<version>/s/.*<version>\(.*\)<\/version>.*/\1/p' "$here/pom.xml")
case $(uname -s) in # what Go calls the user's cache folder
  Darwin) cache=$HOME/Library/Caches ;;
  *) cache=${XDG_CACHE_HOME:-$HOME/.cache} ;;
esac
dir=${GUST_DYNAMODB_LOCAL:-$cache/gust/dynamodb-local-$version}
if [ ! -e "$dir/DynamoDBLocal-$version.jar" ]; then
  command -v mvn >/dev/null || { echo "mvn is missing: apt-get install --no-install-recommends maven default-jre-headless" >&2; exit 1; }
  mkdir -p "$(dirname "$dir")"
  part=$(mktemp -d "$dir.XXXXXX")
  trap 'rm -rf "$part"' EXIT
  for try in 1 2 3; do
    mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$part" >&2 && break
    [ "$try" -lt 3 ] || { echo "mvn could not fetch DynamoDB Local from Maven Central; see above" >&2; exit 1; }
    sleep $((try * 5))
  done
  chmod 755 "$part"
  if [ ! -e "$dir/DynamoDBLocal-$version.jar" ]; then # unless another one was faster
    rm -rf "$dir"
    mv "$part" "$dir"
  fi
fi
command -v java >/dev/null || echo "java is missing (17 or newer): apt-get install --no-install-recommends default-jre-headless" >&2
echo "$dir"
