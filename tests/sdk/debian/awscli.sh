#!/bin/sh
# awscli, 1 or 2: `awscli.sh PROGRAM` runs `aws s3 cp` once per line on stdin.
set -eu
. "$(dirname "$0")/loop.sh"
aws=$1
if [ "${2:-}" = --version ]; then
    "$aws" --version 2>&1 | sed 's,^aws-cli/\([^ ]*\).*,\1,'
    exit
fi
answer_lines "$aws" --endpoint-url "$S3_ENDPOINT" s3 cp "s3://$S3_BUCKET/$S3_KEY" -
