#!/bin/sh
# rclone's s3 backend: `rclone cat` once per line on stdin. It signs for us-east-1 unless it is told a region.
set -eu
. "$(dirname "$0")/loop.sh"
if [ "${1:-}" = --version ]; then
    rclone version | sed -n 's/^rclone v//p'
    exit
fi
answer_lines rclone --config "$HOME/none" --s3-provider Other --s3-env-auth --s3-endpoint "$S3_ENDPOINT" \
    --s3-region "${AWS_REGION:-}" cat ":s3:$S3_BUCKET/$S3_KEY"
