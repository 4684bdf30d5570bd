#!/usr/bin/env bash
# Starts the image as compose.yaml does (read-only, no rights, not root), runs the samples in it, and stops it
# (make test-image VERSION=x, after make image). Slow, and needs podman or docker: not part of CI.
#   ENGINE    podman or docker (default: the first that is installed and works)
#   ENGINEFLAGS  flags before the verb, e.g. "--runtime runc"
#   RUNFLAGS  more flags of `run`, e.g. "--ulimit nofile=1024:1024" where a container may not raise limits
#   TAG       name of the image (default: localhost/gust:VERSION)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=${1:?usage: packaging/test-image.sh VERSION}
tag=${TAG:-localhost/gust:${version#v}}
engine=${ENGINE:-$(command -v podman >/dev/null && echo podman || echo docker)}
name=gust-test-$$
dags=$(mktemp -d)
cp -r dags/. "$dags"
cat >"$dags/leaves_orphans.yml" <<'YAML'
leaves_orphans:
  default_args: {owner: test, start_date: 2025-01-01}
  schedule: null
  tasks:
    sow: {operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "(setsid sleep 0.2 &) ; (setsid sleep 0.3 &) ; id -u"}
YAML
chmod -R a+rX "$dags"
# shellcheck disable=SC2086 # a list of flags
e() { "$engine" ${ENGINEFLAGS:-} "$@"; }
finish() {
  e logs "$name" 2>&1 | tail -5 | sed 's/^/  | /' || true
  e rm -f "$name" >/dev/null 2>&1 || true
  e volume rm -f "$name" >/dev/null 2>&1 || true
  rm -rf "$dags"
}
trap finish EXIT
fail() { echo "test-image: FAILED: $*" >&2; exit 1; }
ok() { echo "test-image: ok: $*"; }
# shellcheck disable=SC2086 # a list of flags
e run -d --name "$name" --read-only --cap-drop ALL --security-opt no-new-privileges --tmpfs /tmp:mode=1777 \
  -v "$name:/var/lib/gust" -v "$dags:/dags:ro" ${RUNFLAGS:-} "$tag" >/dev/null
in_it() { e exec "$name" "$@"; }
wait_for() { # seconds, what, command...
  local i until=$1 what=$2
  shift 2
  for ((i = 0; i < until * 2; i++)); do
    if "$@" >/dev/null 2>&1; then ok "$what"; return 0; fi
    sleep 0.5
  done
  fail "$what: not within $until s"
}
finished() { [[ $(in_it gust dags list-runs "$1" -o plain) == *"$2"*success* ]]; }
wait_for 60 "healthy (gust jobs check)" in_it gust jobs check
[ "$(in_it id -u)" = 50000 ] || fail "runs as $(in_it id -u)"
ok "not root: $(in_it id)"
[[ $(in_it gust version) == *"${version#v}"* ]] || fail "another version: $(in_it gust version)"
[ "$(in_it cat /proc/1/comm)" = tini ] || fail "PID 1 is $(in_it cat /proc/1/comm)"
in_it python3 -c 'import urllib.request as u; print(u.urlopen("http://127.0.0.1:8080/api/v2/monitor/health", timeout=5).read().decode())' || fail "no answer over HTTP"
in_it gust dags list-import-errors -o plain
in_it gust dags trigger python_tasks --conf '{"amount": 120}' --run-id t1 >/dev/null
wait_for 60 "a run of Bash tasks (hello_chain)" finished hello_chain scheduled
wait_for 60 "a run of Python tasks (python_tasks)" finished python_tasks t1
in_it gust dags unpause leaves_orphans >/dev/null
in_it gust dags trigger leaves_orphans --run-id t2 >/dev/null
wait_for 30 "a run whose task leaves processes behind" finished leaves_orphans t2
sleep 1
zombies=$(in_it bash -c 'grep -l "^State:.Z" /proc/[0-9]*/status 2>/dev/null | wc -l')
[ "$zombies" = 0 ] || fail "$zombies zombies"
ok "no zombies"
if in_it touch /usr/x /dags/x 2>/dev/null; then fail "the image or the DAG folder can be written to"; fi
ok "writes to its home and /tmp only"
start=$SECONDS
e stop -t 30 "$name" >/dev/null 2>&1
[ $((SECONDS - start)) -lt 20 ] || fail "stopping took $((SECONDS - start)) s: SIGTERM did not reach the server"
code=$(e inspect "$name" --format '{{.State.ExitCode}}')
[ "$code" = 0 ] || fail "it ended with $code, not 0"
ok "SIGTERM ends it in $((SECONDS - start)) s, exit code 0"
e start "$name" >/dev/null
wait_for 60 "healthy after another start" in_it gust jobs check
finished python_tasks t1 || fail "the runs are gone after another start"
ok "its home outlives it"
