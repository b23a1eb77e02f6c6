"""`ns-bench`: the commands by one name, their completion, a page without training, and `| head`."""

import os
import subprocess
import sys
import webbrowser
from pathlib import Path

import pytest

import ns_bench
from ns_bench.__main__ import NAMES, main
from ns_bench.cli.completion import OPTIONS


def test_each_command_is_known_by_one_name(capsys: pytest.CaptureFixture) -> None:
    assert tuple(OPTIONS) == NAMES
    for name in NAMES:
        with pytest.raises(SystemExit) as end:
            main([name, "--help"])
        assert end.value.code == 0 and "--help" in capsys.readouterr().out
    assert main(["study", "--list"]) == 0 and "teacher_size" in capsys.readouterr().out
    assert main([]) == 0 and all(f"  {name} " in capsys.readouterr().out for name in NAMES[:1])
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ns_bench {ns_bench.__version__}\n"
    assert main(["studdy"]) == 2
    assert capsys.readouterr().err == "ns_bench: unknown command 'studdy': did you mean 'study'?\n"


def test_bash_completes_studies(capsys: pytest.CaptureFixture) -> None:
    assert main(["completion", "bash"]) == 0
    ask = """
COMP_WORDS=(ns-bench study teach); COMP_CWORD=2
function=$(complete -p ns-bench | sed 's/.*-F \\([^ ]*\\).*/\\1/')
$function ns-bench teach study; echo "${COMPREPLY[@]}"
"""
    script = capsys.readouterr().out + ask
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["teacher_size"]


@pytest.mark.parametrize("words", [["--list"], ["all", "--dry-run", "--runs", "none"]])
def test_nobody_reading_on_is_no_error(tmp_path: Path, words: list[str]) -> None:
    """As `| head` does it, but surely: the pipe has no reader from the start."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "ns_bench.study", *words]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, cwd=tmp_path)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.slow
def test_the_demo_opens_a_published_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    assert main(["demo"]) == 0
    (address,) = opened
    page = Path(capsys.readouterr().out.splitlines()[0])
    assert page.as_uri() == address
    text = page.read_text(encoding="utf-8")
    assert "A larger teacher gives a better student." in text and text.count("<svg") >= 2
    assert main(["demo", "--no-browser"]) == 0 and len(opened) == 1
