"""aiobotocore with nothing set but endpoints: prints who it is and what it reads, as JSON."""

import asyncio
import json
import sys

from aiobotocore.session import get_session


async def main(region: str, bucket: str, key: str) -> None:
    """Ask STS and S3 with the default credential chain."""
    session = get_session()
    async with session.create_client("sts", region_name=region) as sts:
        arn = (await sts.get_caller_identity())["Arn"]
    async with session.create_client("s3", region_name=region) as s3:
        answer = await s3.get_object(Bucket=bucket, Key=key)
        async with answer["Body"] as body:
            content = (await body.read()).decode()
    sys.stdout.write(json.dumps({"arn": arn, "content": content}) + "\n")


asyncio.run(main(*sys.argv[1:]))
