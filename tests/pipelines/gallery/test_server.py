"""The gallery's server: who may ask, what the answers' headers say, and that no address leads out of the results."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from drawn_results import DrawnResults
from galleries import open_gallery
from small_results import write_picture
from starlette.testclient import TestClient

from condgen.errors import StorageError
from pipelines.gallery.access import POLICY, Access, host_names
from pipelines.gallery.app import make_app
from pipelines.gallery.gallery import Gallery, Statements
from pipelines.results.settings import BatchSettings

TOKEN = "a-token-of-the-test"
HOST = "http://127.0.0.1:8000"
EVERYWHERE = "0.0.0.0"  # noqa: S104
STATIC = {"a.js": (b"// script", "text/javascript; charset=utf-8")}


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gallery]:
    root = tmp_path_factory.mktemp("server")
    for number in range(5):
        write_picture(root / f"archive/{number}.png", number)
    (root / "archive/broken.jpg").write_bytes(b"nothing")
    DrawnResults(root / "archive", root / "results").make()
    with open_gallery(root / "results", folder=root) as opened:
        yield opened


def client(gallery: Gallery, host: str = "127.0.0.1", base: str = HOST, **headers: str) -> TestClient:
    names, any_address = host_names(host)
    access = Access(names=names, any_address=any_address, token=TOKEN)
    app = make_app(gallery, access, b"<!doctype html>page", STATIC)
    return TestClient(app, base_url=base, headers=headers, follow_redirects=False, raise_server_exceptions=False)


@pytest.fixture
def allowed(gallery: Gallery) -> TestClient:
    return client(gallery, Authorization=f"token {TOKEN}")


def test_the_token_is_exchanged_for_a_cookie_that_scripts_and_other_sites_do_not_have(gallery: Gallery) -> None:
    browser = client(gallery)
    assert browser.get("/").status_code == 401
    answer = browser.get(f"/?token={TOKEN}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert browser.get("/").text == "<!doctype html>page"
    assert browser.get("/api/overview").status_code == 200


def test_after_a_click_in_another_site_a_page_of_ours_leads_on(gallery: Gallery) -> None:
    answer = client(gallery).get(f"/?token={TOKEN}", headers={"Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, "location" in answer.headers) == (200, False)
    assert 'http-equiv="refresh"' in answer.text
    assert TOKEN not in answer.text
    assert TOKEN in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    "path", ["/", "/static/a.js", "/api/overview", "/api/images/1", "/thumb/A/1/draw/0", "/full/A/1/draw/0"]
)
@pytest.mark.parametrize("secret", ["", "?token=wrong", "?token="])
def test_nothing_is_told_without_the_token(gallery: Gallery, path: str, secret: str) -> None:
    for headers in ({}, {"Authorization": "token wrong"}, {"Cookie": "condgen-gallery=wrong"}, {"Cookie": "\x01=="}):
        answer = client(gallery).get(f"{path}{secret}", headers=headers)
        assert answer.status_code == 401
        assert "results" not in answer.text
        assert "set-cookie" not in answer.headers
    assert (
        client(gallery).get(f"/api/overview?token={TOKEN}").status_code == 401
    )  # a token in an address leads to the page alone


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "10.0.0.1", "", "[::2]:80"]
)
def test_another_name_is_refused_even_with_the_token(gallery: Gallery, host: str) -> None:
    for path in ("/", f"/?token={TOKEN}", "/api/overview"):
        answer = client(gallery, Authorization=f"token {TOKEN}").get(path, headers={"Host": host})
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "LOCALHOST:8000", "[::1]:8000"])
def test_names_of_this_machine_are_taken(allowed: TestClient, host: str) -> None:
    assert allowed.get("/api/progress", headers={"Host": host}).status_code == 200


def test_a_server_for_others_takes_any_address_and_its_own_name(gallery: Gallery) -> None:
    there = client(gallery, EVERYWHERE, Authorization=f"token {TOKEN}")
    for host, status in (("10.1.2.3:80", 200), ("[fd00::1]:80", 200), ("localhost", 200), ("evil.example", 403)):
        assert there.get("/api/progress", headers={"Host": host}).status_code == status
    assert client(gallery, EVERYWHERE).get("/api/progress", headers={"Host": "10.1.2.3"}).status_code == 401


@pytest.mark.parametrize("site", ["cross-site", "same-site"])  # another port of this machine is the same site
def test_other_pages_get_nothing_even_with_the_cookie(gallery: Gallery, site: str) -> None:
    browser = client(gallery)
    browser.get(f"/?token={TOKEN}")
    for path in ("/api/overview", "/thumb/A/1/draw/0"):
        assert browser.get(path, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200
        assert browser.get(path, headers={"Sec-Fetch-Site": site}).status_code == 403


def test_every_answer_has_the_headers_of_safety(allowed: TestClient, gallery: Gallery) -> None:
    answers = [
        allowed.get(path) for path in ("/", "/api/overview", "/thumb/A/0/draw/0", "/nothing", "/api/images?count=0")
    ]
    answers.append(client(gallery).get("/"))
    for answer in answers:
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"]
    assert "unsafe" not in POLICY
    assert "data:" not in POLICY


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2f..%2fetc%2fpasswd",
        "/static/%2e%2e/a.js",
        "/thumb/A/0/draw/..%2f0",
        "/thumb/../results/run.json",
        "/full/A/%2e%2e/draw/0",
        "/thumb/C/0/draw/0",
        "/thumb/A/0/original.png/0",
        "/thumb/A/6/draw/0",
        "/thumb/A/-1/draw/0",
        "/thumb/A/0/draw/2",
        "/thumb/A/1e3/draw/0",
        "/thumb/A/\u0663/draw/0",
        "/thumb/A/99999999999999999999/draw/0",
        "/api/images/6",
        "/api/images/x",
        "/run.json",
    ],
)
def test_an_address_leads_to_nothing_else(allowed: TestClient, path: str) -> None:
    answer = allowed.get(path)
    assert answer.status_code == 404
    assert json.loads(answer.text)["error"]


def test_questions_of_another_form_are_told_so(allowed: TestClient) -> None:
    for query in ("count=0", "count=9999", "start=-1", "start=x", "sort=no", "where=width:eq:x", "of=all", "start=1e3"):
        answer = allowed.get(f"/api/images?{query}")
        assert (answer.status_code, bool(answer.json()["error"])) == (400, True), query
    assert allowed.post("/api/overview").status_code == 405


def test_images_have_lasting_addresses(allowed: TestClient) -> None:
    item = allowed.get("/api/images?start=2&count=1").json()["items"][0]
    for one in item["pictures"]:
        for address in (one["thumb"], one["full"]):
            answer = allowed.get(address)
            assert answer.status_code == 200
            assert answer.headers["content-type"] in ("image/jpeg", "image/png")
            assert "immutable" in answer.headers["cache-control"]
    assert "immutable" not in allowed.get("/thumb/A/2/draw/0").headers["cache-control"]
    failed = allowed.get("/thumb/A/5/input/0")
    assert (failed.status_code, "not an image" in failed.json()["error"]) == (404, True)


def test_lists_come_as_they_are_asked_for(allowed: TestClient) -> None:
    answer = allowed.get("/api/images", params={"search": "", "sort": "key", "descending": "1", "count": "2"}).json()
    assert [item["key"] for item in answer["items"]] == ["broken", "4"]
    where = [("where", "width:ge:1"), ("where", "key:ne:2"), ("of", "images"), ("sort", "key")]
    assert [item["key"] for item in allowed.get("/api/images", params=where).json()["items"]] == ["0", "1", "3", "4"]
    assert allowed.get("/api/images?of=errors").json()["total"] == 1
    overview = allowed.get("/api/overview").json()
    assert (overview["title"], overview["is_color"], overview["draws"], overview["comparison"]) == (
        "results",
        True,
        2,
        None,
    )
    assert overview["index"]["done"] == overview["index"]["total"] > 0
    assert allowed.get("/api/images/1").json()["details"]["key"] == "1"
    assert allowed.get("/static/a.js").content == b"// script"


def test_what_is_said_of_evaluations_comes_when_it_is_there(gallery: Gallery, allowed: TestClient) -> None:
    gallery._is_told = False
    assert allowed.get("/api/progress").json()["pending"] is True
    table = {"answers": ["2 draws"], "rows": [["PSNR, dB", "21.0"]], "sentences": ["It does."]}
    gallery.tell(Statements(evaluations={"A": table}, comparison=["a line"]))
    overview = allowed.get("/api/overview").json()
    assert (overview["results"][0]["evaluation"], overview["comparison"], overview["pending"]) == (
        table,
        ["a line"],
        False,
    )
    gallery.tell(None)
    assert allowed.get("/api/overview").json()["comparison"] is None


def test_a_storage_that_is_out_is_told_and_a_bug_tells_nothing_of_itself(
    allowed: TestClient, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out(**_: Any) -> Any:
        raise StorageError("s3://bucket/x", "read", "the storage is out")

    monkeypatch.setattr(gallery, "images", out)
    answer = allowed.get("/api/images")
    assert (answer.status_code, answer.json()["error"]) == (503, "could not read s3://bucket/x: the storage is out")

    def bug(**_: Any) -> Any:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(gallery, "images", bug)
    answer = allowed.get("/api/images")
    assert (answer.status_code, "secret" in answer.text) == (500, False)


def test_in_object_storage_a_big_result_costs_what_a_small_one_does(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.httpsession import URLLib3Session

    for number in range(120):
        write_picture(tmp_path / f"archive/{number:03d}.png", number, (20, 16))
    bucket = s3.uri("gallery")
    counts = {}
    settings = BatchSettings(draws=2, chunk_samples=6)
    for name, images in (("small", 12), ("big", 120)):
        drawn = DrawnResults(tmp_path / "archive", f"{bucket}/{name}", settings)
        drawn.plan(limit=images)
        drawn.work()
        drawn.finish()
        calls: list[str] = []
        with monkeypatch.context() as patch:
            real = URLLib3Session.send

            def noted(self: Any, request: Any) -> Any:
                calls.append(request.url)  # noqa: B023
                return real(self, request)  # noqa: B023

            patch.setattr(URLLib3Session, "send", noted)
            with open_gallery(f"{bucket}/{name}", folder=tmp_path / name, wait=False) as opened:
                first = opened.images(count=6)
                assert [item["key"] for item in first["items"]] == [f"{number:03d}" for number in range(6)]
                assert opened.renditions.thumbnail("A", 0, "draw", 1).data
                counts[name] = len(calls)
                jump = opened.images(start=images // 2, count=6)
                assert next(item["key"] for item in jump["items"]) == f"{images // 2:03d}"
                counts[f"{name} jump"] = len(calls) - counts[name]
    assert counts["big"] == counts["small"] <= 14
    assert counts["big jump"] == counts["small jump"] <= 4
