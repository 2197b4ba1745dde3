import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image


@pytest.mark.parametrize("model", ["colorizer", "stored"])
def test_a_driver_lists_its_job_without_torch(tmp_path: Path, model: str) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "a.png")
    (tmp_path / "stored").mkdir()
    for name in ("model.safetensors", "model.json"):
        (tmp_path / "stored" / name).touch()
    name = str(tmp_path / "stored") if model == "stored" else model
    code = (
        "import sys; from pipelines.batch.job import BatchJob, list_job; "
        f"listed = list_job(BatchJob(archive='images', results='results', model={name!r})); "
        "sys.exit(listed.some_chunks != 1 or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0
