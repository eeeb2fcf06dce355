"""Shards in a bucket of a real S3 server, which a proxy stands before."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import photos
import pytest
import s3server

from fasttail.config import ConvertConfig, StoresConfig
from fasttail.shards.convert import convert
from fasttail.stores import mirror, store


@dataclass
class Bucket:
    """What a test has: the proxy, a client of the server itself, and where the shards are."""

    proxy: s3server.Proxy
    client: Any
    url: str
    local: Path

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket="bucket", Key=f"sets/photos/{key}", Body=content)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    with s3server.moto() as url:
        yield url


@pytest.fixture(scope="session")
def photo_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes in several parts, some of their images kept decoded."""
    folder = tmp_path_factory.mktemp("stores")
    cfg = ConvertConfig(jobs=1, part_size=12_000, raw_budget="15%")
    opened = convert(photos.index(folder / "in", photos.jpegs((9, 6, 5))), folder / "photos", cfg)
    assert len(opened.split("train").part_paths) > 2
    return folder / "photos"


@pytest.fixture
def bucket(
    server: str, photo_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bucket]:
    import boto3
    import s3fs

    for name, value in s3server.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    proxy = s3server.Proxy(server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    monkeypatch.setenv("FASTTAIL_CACHE", str(tmp_path / "cache"))
    quick = StoresConfig(request_bytes=4000, timeout_s=20, patience_s=20, longest_wait_s=0.2)
    for module in (store, mirror):
        monkeypatch.setattr(module, "STORES", quick)
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)  # patience is ours
    s3fs.S3FileSystem.clear_instance_cache()
    client = boto3.client("s3", endpoint_url=server)
    client.create_bucket(Bucket="bucket")
    made = Bucket(proxy, client, "s3://bucket/sets/photos", photo_shards)
    for path in photo_shards.rglob("*"):
        if path.is_file():
            made.put(str(path.relative_to(photo_shards)), path.read_bytes())
    yield made
    proxy.down()
    for entry in client.list_objects_v2(Bucket="bucket").get("Contents", []):
        client.delete_object(Bucket="bucket", Key=entry["Key"])
    client.close()
    s3fs.S3FileSystem.clear_instance_cache()
