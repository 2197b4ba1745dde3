"""Gauges that Ray would forget are set again and again, as long as they are exported."""

import time

from pipelines.cluster.gauges import LastingGauges


class FakeRay:
    """Holds what was set since it was last asked, as a process of Ray does, which reports a gauge once."""

    def __init__(self) -> None:
        self.news: dict[str, float] = {}

    def gauge(self, name: str, description: str, tag_keys: tuple[str, ...]) -> "FakeGauge":
        return FakeGauge(self, name, tag_keys)


class FakeGauge:
    def __init__(self, ray: FakeRay, name: str, keys: tuple[str, ...]) -> None:
        self._ray, self._name, self._keys = ray, name, keys

    def set(self, value: float, tags: dict[str, str]) -> None:
        assert tuple(tags) == self._keys
        self._ray.news[f"{self._name}{list(tags.values())}"] = value


def test_a_gauge_is_set_again_until_the_end_of_its_export_with_its_newest_value() -> None:
    ray = FakeRay()
    gauges = LastingGauges(
        {"step": ("Steps.", ()), "loss": ("Loss.", ("term",))}, {"run": "a"}, make=ray.gauge, again_s=0.02
    )
    gauges.set("step", 7)
    assert ray.news == {}
    with gauges.exported():
        gauges.set("loss", 0.5, term="color")
        gauges.set("step", 8)
        assert ray.news == {"step['a']": 8, "loss['a', 'color']": 0.5}
        for _ in range(2):
            ray.news.clear()
            deadline = time.monotonic() + 10
            while ray.news != {"step['a']": 8, "loss['a', 'color']": 0.5}:
                assert time.monotonic() < deadline
                time.sleep(0.01)
    ray.news.clear()
    gauges.set("step", 9)
    time.sleep(0.1)
    assert ray.news == {}
