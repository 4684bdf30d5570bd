#!/usr/bin/env bash
# Prints the variables with which AWS clients and the CDK talk to the running LocalStack: eval "$(localstack/env.sh)"
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
[ -s "$state/endpoint" ] || die "LocalStack is not running; make localstack starts it"
# The address must be an IP: then S3 requests are path-style and no name has to resolve.
cat <<VARS
export AWS_ENDPOINT_URL=$(cat "$state/endpoint")
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test
export AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1
export AWS_EC2_METADATA_DISABLED=true
unset AWS_SESSION_TOKEN AWS_PROFILE
export CDK_DISABLE_CLI_TELEMETRY=true JSII_SILENCE_WARNING_DEPRECATED_NODE_VERSION=1
VARS
