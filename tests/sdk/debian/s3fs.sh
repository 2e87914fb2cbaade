#!/bin/sh
# s3fs: one mount for all lines on stdin, and the object read through it, past the kernel's cache.
# S3FS_OPTIONS has those of its mount options by which it finds credentials and region.
set -eu
. "$(dirname "$0")/loop.sh"
if [ "${1:-}" = --version ]; then
    s3fs --version | sed -n 's/.* V\([0-9.]*\).*/\1/p'
    exit
fi
usual=iam_role=auto
[ -z "${AWS_CONTAINER_CREDENTIALS_FULL_URI:-}" ] || usual=ecs
mount=$HOME/mount
mkdir "$mount"
s3fs "$S3_BUCKET" "$mount" -f -o "url=$S3_ENDPOINT,use_path_request_style,direct_io,retries=1,${S3FS_OPTIONS:-$usual}" \
    >"$HOME/log" 2>&1 &
daemon=$!
finish() {
    fusermount -u "$mount" 2>/dev/null || umount "$mount" 2>/dev/null || true
    status=0
    wait "$daemon" || status=$?
    cat "$HOME/log" >&2
    exit "$status"
}
trap finish EXIT
tries=0
until grep -q " $mount fuse.s3fs " /proc/mounts; do
    kill -0 "$daemon" 2>/dev/null || exit
    tries=$((tries + 1))
    [ "$tries" -lt 300 ] || exit
    sleep 0.1
done
answer_lines cat "$mount/$S3_KEY"
