"""The dashboard's server: statuses, headers, refused hosts and methods, and the socket."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from primer_search.primitives.errors import UsageError
from primer_search.search.dashboard.rendering import STATIC_FILES
from primer_search.search.dashboard.served_run import open_runs
from primer_search.search.dashboard.server import create_app, listen
from primer_search.tests.support.written_runs import Run, full


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    folder = tmp_path / "one <run>"
    folder.mkdir()
    run = Run(folder, workers=1)
    run.propose(0, None)
    run.train(0, full(4.0))
    run.store.close()
    return TestClient(create_app(open_runs([folder])), base_url="http://127.0.0.1:8421", follow_redirects=False)


def test_the_start_page_of_one_run_is_its_overview(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.status_code == 307
    assert answer.headers["location"] == "/runs/one-run"
    assert client.get("/runs/one-run").status_code == 200


def test_names_of_runs_are_escaped(client: TestClient) -> None:
    page = client.get("/runs/one-run").text
    assert "one &lt;run&gt;" in page
    assert "<run>" not in page


@pytest.mark.parametrize(
    "path",
    [*("/nothing", "/runs/other", "/runs/other/leaderboard", "/runs/%2e%2e/leaderboard", "/runs/one-run/"),
     *("/static/nothing.js", "/static/..%2fserver.py", "/static/%2e%2e%2f%2e%2e%2fserver.py", "/static/")],
)  # fmt: skip
def test_unknown_addresses_are_not_found(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "Not found" in answer.text


@pytest.mark.parametrize("name", STATIC_FILES)
def test_static_files_are_served_from_this_package(client: TestClient, name: str) -> None:
    answer = client.get(f"/static/{name}")
    assert answer.status_code == 200
    assert "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize("path", ["/", "/runs/one-run", "/nothing", "/static/dashboard.js"])
def test_every_answer_has_the_security_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8421", "localhost.evil.example", "127.0.0.1.nip.io", ""]
)
def test_foreign_names_are_refused(client: TestClient, host: str) -> None:
    answer = client.get("/runs/one-run", headers={"Host": host})
    assert answer.status_code == 421
    assert "one-run" not in answer.text


@pytest.mark.parametrize("host", ["localhost:8421", "127.0.0.1", "[::1]:8421", "192.168.1.7:80", socket.gethostname()])
def test_own_names_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/runs/one-run", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_only_reading_is_allowed(client: TestClient, method: str) -> None:
    assert client.request(method, "/runs/one-run").status_code == 405


def test_runs_of_one_name_get_different_keys(tmp_path: Path) -> None:
    for parent in ("a", "b"):
        (tmp_path / parent / "same").mkdir(parents=True)
        Run(tmp_path / parent / "same", workers=1).store.close()
    runs = open_runs([tmp_path / "a/same", tmp_path / "b/same", tmp_path / "a/same"])
    assert list(runs) == ["same", "same-2"]


def test_a_taken_port_is_refused_in_a_sentence_and_the_default_moves_on() -> None:
    with listen("127.0.0.1", None) as first, listen("127.0.0.1", None) as second:
        taken = first.getsockname()[1]
        assert second.getsockname()[1] != taken
        with pytest.raises(UsageError, match="--port"):
            listen("127.0.0.1", taken)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(UsageError, match="--host"):
        listen("192.0.2.1", None)
