"""The demo from end to end, with few pictures and few steps."""

import json
from pathlib import Path

import pytest

from jobs.demo.run import DemoOptions, run


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_goes_all_the_way_and_the_second_time_uses_what_is_complete(ray_cluster: None, tmp_path: Path) -> None:
    options = DemoOptions(
        out=str(tmp_path / "out"), photographs=str(tmp_path / "photographs"), num_training=96, train_steps=3
    )
    stages: list[str] = []
    first = run(options, say=stages.append)
    assert len(stages) == 8
    assert "astronaut" in Path(first.showcase_page).read_text()
    assert (first.images, first.draws, first.errors) == (60, 59 * 3, 1)
    assert first.images_per_s > 0
    assert first.claims.num_images == 59
    assert first.claims.grey < 1.0
    facts = json.loads((tmp_path / "out" / "results" / "run.json").read_text())
    assert facts["counts"]["with_draws"] + facts["counts"]["errors"] == facts["counts"]["images"] == 60
    page = Path(first.page).read_text()
    assert "damaged-on-purpose" in page
    assert "more than L2" in page
    draws = {path.name: path.read_bytes() for path in (tmp_path / "out" / "results" / "draws").iterdir()}

    stages.clear()
    second = run(options, say=stages.append)
    assert sum("was complete" in line for line in stages) == 5
    assert (second.images, second.draws, second.errors) == (60, 59 * 3, 1)
    assert second.claims == first.claims
    assert {path.name: path.read_bytes() for path in (tmp_path / "out" / "results" / "draws").iterdir()} == draws
    assert any("complete from an earlier run" in line for line in second.lines())
