"""`ns-bench serve`: a live page that reads a store, for this machine's browsers alone."""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import SCRIPT, filled
from pools import until

from ns_bench.arguments import parse
from ns_bench.report.serve import LivePage, ServeOptions, content, main, serving
from ns_bench.runs.lease import Lease

pytestmark = pytest.mark.slow

NEXT, ITS_STUDENT = "digits-micro-b0-sup-s1", "digits-micro-b0-gen1-of-micro-b0-s1"
"""What the store lacks."""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """All runs of a smoke study but a teacher and its student."""
    root = filled(tmp_path / "runs", "teacher_size", profile="smoke", seeds=2).root
    for name in (NEXT, ITS_STUDENT):
        (lacking,) = root.glob(f"{name}-*")
        shutil.rmtree(lacking)
    return root


@pytest.fixture
def options(store: Path) -> ServeOptions:
    return ServeOptions(study="teacher_size", profile=("smoke",), runs=store)


@pytest.fixture
def page(options: ServeOptions) -> LivePage:
    return LivePage(options)


@pytest.fixture
def port(page: LivePage) -> Iterator[int]:
    with serving(page, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def ask(
    port: int, path: str = "/", method: str = "GET", host: str = "localhost"
) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host)
    connection.endheaders()
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def bytes_of(store: Path) -> dict[Path, tuple[bytes, int]]:
    files = [path for path in sorted(store.rglob("*")) if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_it_shows_runs_interim_results_and_logs(store: Path, page: LivePage, port: int) -> None:
    failed = next(store.glob("*gen1*-s0-*"))
    (failed / "result.json").unlink()
    failure = {"error": f"Diverged: {SCRIPT}", "traceback": f"first\n{SCRIPT}\nloss is \ud800 nan"}
    (failed / "failure.json").write_text(json.dumps(failure))
    other = store / "other-0123456789ab"
    failed_recipe = (failed / "recipe.json").read_text()
    other.mkdir()
    (other / "recipe.json").write_text(failed_recipe)  # of another name: not a run, and left out
    before = bytes_of(store)
    page._due = 0.0
    status, text = ask(port)
    assert status == 200 and SCRIPT not in text
    assert "Diverged: &lt;script&gt;" in text and "loss is ? nan" in text
    assert "Incomplete: 1 failed, 2 missing." in text and "interim" in text
    assert re.search(rf"{NEXT}-\w+</code></th>\s*.*supervised</td>\s*.*\s*.*>missing<", text)
    assert text.index(">failed<") < text.index(">missing<") < text.index(">done<")
    assert bytes_of(store) == before


def test_what_is_at_work_for_no_study_shown_is_there_too(options: ServeOptions) -> None:
    there = {*options.runs.iterdir()}
    filled(options.runs, "confidence_threshold", profile="smoke", seeds=1)
    other = min(run for run in {*options.runs.iterdir()} - there if "gen1" in run.name)
    (other / "result.json").unlink()
    with Lease(other).held():
        page = repr(content(options))
    assert "Other runs of this store" in page and page.count(f"'{other.name}'") == 1
    assert '"step"' in page, "the end of its log"
    assert other.name not in repr(content(options))


def test_a_study_with_fields_set_by_hand_is_shown_with_its_runs(tmp_path: Path) -> None:
    root, changed = tmp_path / "runs", {"train.epochs": "3"}
    store = filled(root, "teacher_size", profile="smoke", seeds=2, changed=changed)
    words = ["teacher_size", "--profile", "smoke", "--runs", str(store.root)]
    page = content(parse(ServeOptions, [*words, "--set", "train.epochs=3"]))
    of_arms = [path.parent.name for path in store.root.glob("*-micro-b0-*/result.json")]
    assert "train.epochs=3" in page.title
    assert "'missing'" not in repr(page) and all(run in repr(page) for run in of_arms)


def test_only_this_machine_is_answered_and_only_one_page(port: int, store: Path) -> None:
    for host in ("localhost", f"localhost:{port}", "127.0.0.1:1"):
        assert ask(port, host=host)[0] == 200
    for host in ("", "evil.example", f"evil.example:{port}", "localhost.evil.example", "0.0.0.0"):
        assert ask(port, host=host) == (403, "only for this machine, as localhost\n")
    for path in ("/../../etc/passwd", "//etc/passwd", "/store.json", "/%2e%2e/store.json", "/?x"):
        assert ask(port, path)[0] == 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "HEAD"):
        assert ask(port, method=method)[0] == 501


def test_a_store_that_goes_away_is_said_and_comes_back(
    page: LivePage, port: int, store: Path
) -> None:
    aside = store.rename(store.with_name("moved"))
    page._due = 0.0
    assert ask(port) == (503, f"{store}: there is no such folder to read results from\n")
    aside.rename(store)
    assert ask(port)[0] == 200


def test_bad_input_is_refused_in_a_line(
    store: Path, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["teacher_size", "--profile", "smoke", "--runs", str(store)]
    refused = {
        "there is no such folder": [*words[:3], "--runs", str(store / "none")],
        f"--port {port}: Address already in use; choose another": [*words, "--port", str(port)],
        "--from has no place here": [*words, "--from", str(store)],
        "did you mean 'noise'": ["noize", "--runs", str(store)],
        "expected FIELD=VALUE": [*words, "--set", "train.epochs"],
        "did you mean 'train.epochs'": [*words, "--set", "train.epoch=3"],
    }
    for why, asked in refused.items():
        assert main(asked) == 2
        said = capsys.readouterr().err
        assert why in said and said.count("\n") == 1
    with pytest.raises(SystemExit):
        main([*words, "--port", "65536"])


@pytest.mark.browser
def test_the_page_follows_a_study_that_runs(browser, options, store, tmp_path) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    server = serving(LivePage(options), 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    page = browser.new_page(viewport={"width": 390, "height": 900})
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda message: troubles.append(message.text))
    page.goto(f"http://localhost:{server.server_port}/")
    page.evaluate("window.loadedOnce = true")
    row = page.locator(f"tr:has(code:text('{ITS_STUDENT}'))")
    assert row.locator("td").all_inner_texts()[-1] == "missing"
    command = [sys.executable, "-m", "ns_bench", "study", "teacher_size", "--profile", "smoke"]
    more = ["--runs", str(store), "--out", str(tmp_path / "out"), "--workers", "1"]
    with subprocess.Popen(
        [*command, *more], stdout=subprocess.DEVNULL, start_new_session=True
    ) as study:
        # It trains for a second: held still, until the page has looked.
        until(lambda: any(store.glob(f"{ITS_STUDENT}-*/metrics.jsonl")), "the student's curve")
        os.killpg(study.pid, signal.SIGSTOP)
        try:
            page.locator(f"p:has-text('{ITS_STUDENT}') + pre:has-text('loss')").wait_for(
                timeout=120_000
            )
        finally:
            os.killpg(study.pid, signal.SIGCONT)
        row.locator("td:text-is('done')").wait_for(timeout=120_000)
        assert study.wait(timeout=120) == 0
    page.locator("text=Incomplete").wait_for(state="detached")
    assert page.evaluate("window.loadedOnce"), "without a reload"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    found = axe.Axe().run(page).response["violations"]
    assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []
    assert troubles == []
    server.shutdown()
    server.server_close()
    thread.join()
    page.locator("#gone:has-text('No answer since')").wait_for()
    assert row.locator("td").all_inner_texts()[-1] == "done", "what was there stays"
    page.close()
