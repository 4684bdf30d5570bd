#!/usr/bin/env bash
# Writes docs/cli.md from what the binary says of itself:
#   make build && docs/gen-cli.sh bin/gust > docs/cli.md
set -euo pipefail
gust=${1:?usage: docs/gen-cli.sh path/to/gust}
export GUST_HOME='~/.gust'

help_of() { "$gust" "$@" --help 2>/dev/null || true; }

# subcommands of a group, without those that cobra brings along.
subs() {
  help_of "$@" | awk '/^Available Commands:/{on=1; next} on && /^$/{exit} on{print $1}' | grep -vE '^(completion|help)$' || true
}

# one prints a command: what it does, its usage, its own flags and examples.
one() {
  local title="gust $*"
  printf '### %s\n\n' "$title"
  help_of "$@" | awk '/^Usage:/{exit} NF' | sed 's/[<>]/\\&/g'
  printf '\n```\n'
  help_of "$@" | awk '
    /^Usage:/ {part="usage"; next}
    /^Aliases:/ {part=""; next}
    /^Examples:/ {part="examples"; next}
    /^Flags:/ {part="flags"; next}
    /^Global Flags:/ {part=""; next}
    /^Available Commands:/ {part=""; next}
    /^Use "/ {part=""; next}
    part=="usage" && NF {sub(/^ +/, ""); print}
    part=="flags" && NF && !/--help / {flags = flags $0 "\n"}
    part=="examples" && NF {sub(/^ +/, "  "); examples = examples $0 "\n"}
    END { if (flags) printf "\n%s", flags; if (examples) printf "\n%s", examples }'
  printf '```\n\n'
}

cat <<'HEAD'
# Command line

Written by `docs/gen-cli.sh` from the program's own help. What differs from Airflow: [compatibility.md](compatibility.md#command-line).

Every command takes `--home DIR` (or `GUST_HOME`), `-o table|json|yaml|plain` and `-v`. It works beside a running server, which it tells through a socket in the home, and without one: the next
server carries on what was committed. Exit codes: 0, 1 (failed), 2 (usage). `gust completion bash|zsh|fish|powershell` writes shell completions. `bin/airflow` is the same program and answers to
`airflow celery worker`, `airflow api-server` and the like.

HEAD

groups=() singles=()
for c in $(subs); do
  if [ -n "$(subs "$c")" ]; then groups+=("$c"); else singles+=("$c"); fi
done

printf '| group | verbs |\n|---|---|\n'
printf '| (top) | %s |\n' "$(printf '`%s` ' "${singles[@]}")"
for g in "${groups[@]}"; do printf '| `%s` | %s |\n' "$g" "$(subs "$g" | sed 's/.*/`&`/' | tr '\n' ' ')"; done
printf '\n## gust\n\n'
for c in "${singles[@]}"; do one "$c"; done
for g in "${groups[@]}"; do
  printf '## gust %s\n\n' "$g"
  for c in $(subs "$g"); do one "$g" "$c"; done
done
