"""What the tests of pushing share: a small pack, and the official client against a Kaggle on loopback."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from kaggle_server import KEY, USER, Kaggle
from tiebreak.kaggle import remote
from tiebreak.kaggle.layout import Layout
from tiebreak.kaggle.packing import record
from tiebreak.kaggle.remote import Client, Done, Pace, Wishes, find
from tiebreak.kaggle.settings import KernelSettings
from tiebreak.listening import Listener
from tiebreak.predict.forms import LMSYS

ROOT = Path(__file__).parents[1]
COMPETITION = "llm-classification-finetuning"
KERNEL = f"{USER}/tiebreak-embedded"
WHEELS = f"{USER}/tiebreak-wheels-embedded"
JUDGE = f"{USER}/tiebreak-judge/transformers/judge"


def make_pack(root: Path, *, judge: bool = False) -> Layout:
    """A pack as `tiebreak kaggle pack` lays it out, with a few bytes for each of its files."""
    pack = Layout(root)
    for folder in (pack.kernel, pack.wheels):
        folder.mkdir(parents=True)
    _json(pack.wheels / "dataset-metadata.json", {
        "title": "Tiebreak wheels embedded", "id": WHEELS, "licenses": [{"name": "apache-2.0"}],
    })  # fmt: skip
    (pack.wheels / "wheelhouse.json").write_text('{"format": 1}')
    (pack.wheels / "requirements.lock").write_text("numpy==2.0 --hash=sha256:00\n")
    (pack.wheels / "numpy-2.0-py3-none-any.whl").write_bytes(b"PK" + bytes(5000))
    source = ["import os\n", "print(os.getcwd())"]
    cell = {"cell_type": "code", "id": "a", "source": source, "metadata": {}, "outputs": [], "execution_count": None}
    _json(pack.kernel / "tiebreak-embedded.ipynb", {
        "nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        "cells": [cell],
    })  # fmt: skip
    _json(pack.kernel / "kernel-metadata.json", {
        "id": KERNEL, "title": "Tiebreak embedded", "code_file": "tiebreak-embedded.ipynb", "language": "python",
        "kernel_type": "notebook", "is_private": True, "enable_gpu": judge, "enable_tpu": False,
        "enable_internet": False, **({"machine_shape": "NvidiaTeslaT4"} if judge else {}), "dataset_sources": [WHEELS],
        "competition_sources": [COMPETITION], "kernel_sources": [], "model_sources": [f"{JUDGE}/1"] if judge else [],
    })  # fmt: skip
    if judge:
        _model(pack)
    return pack


def _model(pack: Layout) -> None:
    (pack.model / "judge").mkdir(parents=True)
    _json(pack.model / "model-metadata.json", {
        "ownerSlug": USER, "title": "Tiebreak judge", "slug": "tiebreak-judge", "subtitle": "", "isPrivate": True,
        "description": "A judge of pairs of answers.", "publishTime": "", "provenanceSources": "",
    })  # fmt: skip
    _json(pack.model / "judge" / "model-instance-metadata.json", {
        "ownerSlug": USER, "modelSlug": "tiebreak-judge", "instanceSlug": "judge", "framework": "transformers",
        "overview": "The judge.", "usage": "With tiebreak.", "licenseName": "Apache 2.0", "fineTunable": False,
        "trainingData": [], "modelInstanceType": "Unspecified", "baseModelInstance": "", "externalBaseModelUrl": "",
    })  # fmt: skip
    (pack.model / "judge" / "judge.json").write_text('{"kind": "classifier"}')
    (pack.model / "judge" / "adapter.safetensors").write_bytes(bytes(3000))


def _json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1) + "\n")


def environment(kaggle: Kaggle, home: Path, *, signed_in: bool = True) -> dict[str, str]:
    """Variables with which the client is somebody, and Kaggle is ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KAGGLE")}
    credentials = {"KAGGLE_USERNAME": USER, "KAGGLE_KEY": KEY} if signed_in else {}
    return {
        **kept, **credentials, "HOME": str(home), "FAKE_KAGGLE": kaggle.url, "TIEBREAK_CACHE": str(home / "cache"),
        "PYTHONPATH": str(ROOT / "tests" / "kaggle_site"), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1",
    }  # fmt: skip


def cli(kaggle: Kaggle, home: Path, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command line, as a user runs it; the client is its child."""
    return subprocess.run(
        [sys.executable, "-m", "tiebreak", "kaggle", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False, env=environment(kaggle, home, **options),
    )  # fmt: skip


@dataclass(frozen=True)
class InProcess(Client):
    """The official client's own command line, run in this process: the same code without its second of starting."""

    before: Callable[[tuple[str, ...]], None] = lambda arguments: None
    after: Callable[[tuple[str, ...]], None] = lambda arguments: None

    def run(
        self, arguments: tuple[str, ...], environment: Mapping[str, str], line: Callable[[str], None]
    ) -> tuple[int, str, str]:
        self.before(arguments)
        out, err = io.StringIO(), io.StringIO()
        kept, argv, folder = dict(os.environ), sys.argv, tempfile.tempdir
        os.environ.clear()
        os.environ.update(environment)
        sys.argv, tempfile.tempdir = ["kaggle", *arguments], environment.get("TMPDIR")
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                code = _main(arguments[0])
        finally:
            sys.argv, tempfile.tempdir = argv, folder
            os.environ.clear()
            os.environ.update(kept)
        for text in out.getvalue().splitlines():
            line(text)
        self.after(arguments)
        return code, out.getvalue(), err.getvalue()


_GROUPS = ("auth", "benchmarks", "competitions", "config", "datasets", "files", "forums", "kernels", "models", "quota")


def _main(group: str) -> int:
    import kaggle.cli
    from kagglesdk import kaggle_env

    kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.PROD] = os.environ["FAKE_KAGGLE"]
    kaggle.cli.api._authenticated = False
    # Nearly all of its time goes into hundreds of parsers of other commands, and translations that are not there.
    others = {f"parse_{name}": lambda parsers: None for name in _GROUPS if name != group}
    try:
        with patch("argparse._", str), patch.multiple(kaggle.cli, **others):
            kaggle.cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    except Exception as error:
        sys.stderr.write(f"Traceback (most recent call last):\n{type(error).__name__}: {error}\n")
        return 1
    return 0


class Desk:
    """Somebody who is signed in and pushes, who looks again at once."""

    wishes = Wishes(pace=Pace(every=0.0, version=60, run=60))

    def __init__(self) -> None:
        self.said: list[str] = []
        self.calls: list[tuple[str, ...]] = []

    def client(self, **hooks: Callable[[tuple[str, ...]], None]) -> InProcess:
        """The client; hooks: before and after each call."""
        return InProcess(("kaggle",), find(), Listener(self.said.append), **hooks)

    def push(self, pack: Layout, *, submit: str | None = None, **wishes: Any) -> list[Done]:
        """Push, and wait and submit if asked to."""
        hooks = {name: wishes.pop(name) for name in ("before", "after") if name in wishes}
        asked = replace(self.wishes, submit=submit, **wishes)
        client = self.client(**({"before": self.calls.append} | hooks))
        with remote.session(pack, client, asked, client.listener) as session:
            done = remote.send(session)
            if submit is not None:
                remote.wait(session)
                remote.submit(session, submit)
            return done


def actions(done: list[Done]) -> dict[str, tuple[str, int]]:
    """What was done, by part, with the version that is on Kaggle now."""
    return {one.name: (one.action, one.version) for one in done}


def sign_in(kaggle: Kaggle, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process somebody, for whom Kaggle is ours."""
    for name in list(os.environ):
        if name.startswith("KAGGLE"):
            monkeypatch.delenv(name)
    for name, value in environment(kaggle, home).items():
        monkeypatch.setenv(name, value)


def record_pack(pack: Layout, *, judge: bool = False, notes: str = "") -> None:
    """Write `pack.json`: what lies in the pack now is what was packed."""
    settings = KernelSettings(
        competition=COMPETITION, submission=LMSYS, wheelhouse="0" * 64, judge="1" * 64 if judge else None
    )
    record.Record(
        user=USER, kernel=KERNEL, dataset=WHEELS, judge=record.JudgeRecord(
            name="judge", kind="features", sha256=settings.judge, parameters=0
        ), python="3.11", platform="manylinux_2_28_x86_64", requirements=(), settings=settings, notes=notes,
        parts=record.parts(pack),
    ).write(pack)  # fmt: skip
