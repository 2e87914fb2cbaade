"""aiobotocore: one client, one object fetched per line on stdin (docs/testing.md has the contract)."""

import asyncio
import os
import sys

import aiobotocore
import botocore
from aiobotocore.session import get_session
from botocore.config import Config


async def main() -> None:
    """Answer each line with a fetch by the one client."""
    path_style = Config(s3={"addressing_style": "path"})
    endpoint = os.environ["S3_ENDPOINT"]
    async with get_session().create_client("s3", endpoint_url=endpoint, config=path_style) as s3:
        while await asyncio.to_thread(sys.stdin.readline):
            try:
                answer = await s3.get_object(Bucket=os.environ["S3_BUCKET"], Key=os.environ["S3_KEY"])
                async with answer["Body"] as body:
                    print("ok", (await body.read()).decode(), flush=True)
            except Exception as error:  # noqa: BLE001  whatever it is, it is this line's answer
                print("error", repr(error).replace("\n", " "), flush=True)


if sys.argv[1:] == ["--version"]:
    print(f"{aiobotocore.__version__} (botocore {botocore.__version__})")
else:
    asyncio.run(main())
