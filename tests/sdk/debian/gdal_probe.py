"""GDAL's /vsis3/: one object read per line on stdin (docs/testing.md has the contract)."""

import os
import sys

from osgeo import gdal

if sys.argv[1:] == ["--version"]:
    print(gdal.__version__)
    sys.exit()

gdal.UseExceptions()
gdal.SetConfigOption("AWS_S3_ENDPOINT", os.environ["S3_ENDPOINT"].removeprefix("http://"))
gdal.SetConfigOption("AWS_HTTPS", "NO")
gdal.SetConfigOption("AWS_VIRTUAL_HOSTING", "FALSE")
gdal.SetConfigOption("CPL_AWS_AUTODETECT_EC2", "NO")  # it would look for Amazon in the machine's firmware
PATH = f"/vsis3/{os.environ['S3_BUCKET']}/{os.environ['S3_KEY']}"


def fetch() -> str:
    """Return the object's text. Raises OSError when it can't be read."""
    gdal.VSICurlClearCache()
    file = gdal.VSIFOpenL(PATH, "rb")
    if file is None:
        raise OSError(gdal.VSIGetLastErrorMsg() or gdal.GetLastErrorMsg() or "can't be opened")
    try:
        return bytes(gdal.VSIFReadL(1, 1000, file)).decode()
    finally:
        gdal.VSIFCloseL(file)


for _ in sys.stdin:
    try:
        print("ok", fetch(), flush=True)
    except Exception as error:  # noqa: BLE001  whatever it is, it is this line's answer
        print("error", repr(error).replace("\n", " "), flush=True)
