#!/usr/bin/env bash
# Installs what start.sh needs into the cache, from PyPI and Maven Central only. Safe to repeat: a second
# call takes no time. See lib.sh for the variables.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

problems=()
python=${PYTHON:-}
for version in 3.11 3.13 3.12; do # the first is what LocalStack's own image has
  [ -n "$python" ] || python=$(find_python "$version")
done
if [ -z "$python" ]; then
  problems+=("python3.11 is missing (3.12 and 3.13 will do): apt-get install python3-venv, or pyenv install 3.11, or set PYTHON")
elif ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
  problems+=("$python has no venv module: apt-get install python3-venv")
fi
if ! command -v java >/dev/null; then
  problems+=("java is missing: apt-get install default-jre-headless")
elif java=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p') && [ "${java:-0}" -lt 17 ]; then
  problems+=("java $java is too old for DynamoDB Local, which needs 17: apt-get install default-jre-headless")
fi
command -v mvn >/dev/null || [ -n "$(ls "$(cat "$cache/dynamodb-local.path" 2>/dev/null)"/DynamoDBLocal-*.jar 2>/dev/null)" ] ||
  problems+=("mvn is missing: apt-get install maven")
for tool in curl setsid flock sha256sum; do
  command -v "$tool" >/dev/null || problems+=("$tool is missing: apt-get install curl util-linux coreutils")
done
if [ ${#problems[@]} -gt 0 ]; then
  for p in "${problems[@]}"; do say "$p"; done
  die "cannot install LocalStack; on Debian: apt-get install --no-install-recommends python3 python3-venv default-jre-headless maven curl util-linux"
fi

mkdir -p "$cache"
exec 9>"$cache/install.lock"
flock -n 9 || { say "waiting for another installation into $cache"; flock -w 1800 9 || die "another installation holds $cache/install.lock since 30 minutes"; }

pip() { "$1/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --retries 5 "${@:2}" >&2; }

# DynamoDB Local, while pip works
"$here/install-dynamodb-local.sh" >"$cache/dynamodb-local.path" 2>"$cache/dynamodb-local.log" &
fetching=$!

# LocalStack's own environment, again when the lock changes; the add-on, again when it changes
lock=$(cat "$here/requirements.lock" <("$python" -V) | sha256sum | cut -c1-16)
if [ "$(cat "$venv/.lock" 2>/dev/null || true)" != "$lock" ]; then
  say "installing LocalStack from PyPI into $venv with $python (about a minute)"
  t=$SECONDS
  rm -rf "$venv"
  "$python" -m venv "$venv" >&2
  retry timeout 1800 "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --retries 5 \
    -r "$here/requirements.lock" >&2 || die "pip could not install $here/requirements.lock; see above"
  echo "$lock" > "$venv/.lock"
  say "installed LocalStack in $(took "$t")"
fi
kit=$(cat "$here"/hostkit/pyproject.toml "$here"/hostkit/localstack_hostkit/*.py | sha256sum | cut -c1-16)
if [ "$(cat "$venv/.hostkit" 2>/dev/null || true)" != "$kit" ]; then
  build=$(mktemp -d) # built from a copy, so that the build leaves nothing here
  cp -R "$here/hostkit" "$build/"
  pip "$venv" --no-build-isolation --force-reinstall "$build/hostkit"
  rm -rf "$build"
  echo "$kit" > "$venv/.hostkit"
  say "installed the hostkit add-on"
fi

# the interpreter of functions with a managed Python runtime: has boto3, as on AWS, and nothing of LocalStack
if [ -z "${HOSTKIT_PYTHON:-}" ]; then
  managed=$(find_python 3.13)
  if [ -z "$managed" ]; then
    managed=$python
    say "no python3.13 found: python3.13 functions run with $("$python" -V 2>&1) here"
  fi
  wanted=$(sed -n '/^\(boto3\|botocore\|s3transfer\|jmespath\|python-dateutil\|six\|urllib3\)==/p' "$here/requirements.lock")
  stamp=$(echo "$wanted $("$managed" -V) $managed" | sha256sum | cut -c1-16)
  if [ "$(cat "$lambda_python/.stamp" 2>/dev/null || true)" != "$stamp" ]; then
    say "installing the managed runtime's Python ($("$managed" -V 2>&1)) into $lambda_python"
    rm -rf "$lambda_python"
    "$managed" -m venv "$lambda_python" >&2
    # shellcheck disable=SC2086 # one requirement a word
    retry "$lambda_python/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-compile $wanted >&2 ||
      die "pip could not install boto3 for the managed runtime; see above"
    echo "$stamp" > "$lambda_python/.stamp"
  fi
fi

wait "$fetching" || { cat "$cache/dynamodb-local.log" >&2; die "cannot install DynamoDB Local; see above"; }
