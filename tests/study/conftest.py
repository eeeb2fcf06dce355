"""One finished study, which tests read and leave as it is."""

from pathlib import Path

import pytest
from smallstudy import QUIET, asked

from fasttail.study.run import study


@pytest.fixture(scope="session")
def finished(blob_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study's directory: two samplers, two seeds, one backbone, one epoch, four heads."""
    out = tmp_path_factory.mktemp("studies") / "blobs"
    study(asked(blob_shards, out), QUIET)
    return out
