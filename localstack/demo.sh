#!/usr/bin/env bash
# What `make localstack` does: brings LocalStack up with Gust deployed to it, uploads a folder of DAG files
# (default: the samples in dags/) and says where to look.
#   demo.sh [DAGS_FOLDER]
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
dags=${1:-$(dirname "$here")/dags}
[ -d "$dags" ] || die "$dags is not a folder of DAG files"
url=$("$here/up.sh")
bucket=gust-localstack-dags-000000000000-us-east-1
"$here/aws" s3 sync --delete --only-show-errors --exclude '*__pycache__*' "$dags" "s3://$bucket/dags/" >&2
say "uploaded $dags to s3://$bucket/dags/"
cat <<TEXT

Gust runs on LocalStack at $url. Runs of the samples begin within a minute.

  localstack/logs worker-default -f    # the tasks' own logs; scheduler, dagprocessor, … show the functions'
  localstack/aws s3 sync --delete dags s3://$bucket/dags/    # upload DAG files again
  make localstack-down                 # stop and forget
TEXT
