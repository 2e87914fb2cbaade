#!/bin/sh
# curl by hand: the three requests of IMDSv2, or what a container asks, and one that curl signs itself.
set -eu
. "$(dirname "$0")/loop.sh"
if [ "${1:-}" = --version ]; then
    curl --version | sed -n '1s/^curl \([^ ]*\).*/\1/p'
    exit
fi
metadata=http://169.254.169.254
if [ "${AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE:-}" = IPv6 ]; then
    metadata="http://[fd00:ec2::254]"
fi
metadata=${AWS_EC2_METADATA_SERVICE_ENDPOINT:-$metadata}
metadata=${metadata%/}/latest

ask() {
    curl --silent --show-error --fail --max-time 5 --globoff "$@"
}

read_field() {
    sed -n "s/.*\"$1\" *: *\"\([^\"]*\)\".*/\1/p"
}

read_document() {
    if [ -n "${AWS_CONTAINER_CREDENTIALS_FULL_URI:-${AWS_CONTAINER_CREDENTIALS_RELATIVE_URI:-}}" ]; then
        url=${AWS_CONTAINER_CREDENTIALS_FULL_URI:-http://169.254.170.2${AWS_CONTAINER_CREDENTIALS_RELATIVE_URI:-}}
        secret=${AWS_CONTAINER_AUTHORIZATION_TOKEN:-$(cat "${AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE:-/dev/null}")}
        ask --header "Authorization: $secret" "$url" | tr ',' '\n'
        return
    fi
    role=$(ask --header "X-aws-ec2-metadata-token: $token" "$metadata/meta-data/iam/security-credentials/")
    ask --header "X-aws-ec2-metadata-token: $token" "$metadata/meta-data/iam/security-credentials/$role"
}

fetch() {
    token=none
    if [ -z "${AWS_CONTAINER_CREDENTIALS_FULL_URI:-${AWS_CONTAINER_CREDENTIALS_RELATIVE_URI:-}}" ]; then
        token=$(ask --request PUT --header "X-aws-ec2-metadata-token-ttl-seconds: 300" "$metadata/api/token") || return
    fi
    region=${AWS_REGION:-$(ask --header "X-aws-ec2-metadata-token: $token" "$metadata/meta-data/placement/region")}
    document=$(read_document) || return
    key=$(printf '%s\n' "$document" | read_field AccessKeyId)
    secret=$(printf '%s\n' "$document" | read_field SecretAccessKey)
    session=$(printf '%s\n' "$document" | read_field Token)
    ask --user "$key:$secret" --aws-sigv4 "aws:amz:$region:s3" --header "x-amz-security-token: $session" \
        --header "x-amz-content-sha256: UNSIGNED-PAYLOAD" "$S3_ENDPOINT/$S3_BUCKET/$S3_KEY"
}

answer_lines fetch
