"""boto3 with nothing set but endpoints: prints who it is and what it reads, as JSON."""

import json
import sys

import boto3

region, bucket, key = sys.argv[1:]
session = boto3.Session(region_name=region)
arn = session.client("sts").get_caller_identity()["Arn"]
content = session.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read().decode()
sys.stdout.write(json.dumps({"arn": arn, "content": content}) + "\n")
