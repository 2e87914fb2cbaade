#!/bin/sh
# s3cmd: `s3cmd get` once per line on stdin. It must find a configuration file, if only an empty one.
set -eu
. "$(dirname "$0")/loop.sh"
if [ "${1:-}" = --version ]; then
    s3cmd --version | sed 's/^s3cmd version //'
    exit
fi
: >"$HOME/.s3cfg"
host=${S3_ENDPOINT#http://}
answer_lines s3cmd --quiet --no-progress --no-ssl "--host=$host" "--host-bucket=$host" \
    get "s3://$S3_BUCKET/$S3_KEY" -
