"""A small pack: wheels made by hand, a `tiebreak` that only pretends to judge, and what Kaggle mounts."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiebreak.kaggle import notebook
from tiebreak.kaggle.settings import KernelSettings
from tiebreak.predict import forms

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
COMPETITION = "llm-classification-finetuning"

PRETENDER = '''
import csv, json, os, sys, time
"""Answers as `tiebreak predict` does: the bundle's `acts` says how its judge behaves."""
options = sys.argv[1:]
assert options[0] == "predict", options
def of(name): return options[options.index(name) + 1] if name in options else None
bundle = of("--judge")
acts = json.load(open(os.path.join(bundle, "judge.json")))["acts"] if bundle else {}
print("pretending to judge", file=sys.stderr, flush=True)
if "connect" in acts:
    import socket
    try:
        socket.create_connection((acts["connect"], 80), timeout=1)
    except OSError as error:
        print(f"no connection: {error}", file=sys.stderr, flush=True)
time.sleep(acts.get("sleep", 0))
if acts.get("gpus") == 1 and "," in (of("--devices") or ""):
    acts["otherwise"] = 1.0
if "signal" in acts:
    os.kill(os.getpid(), acts["signal"])
if "exit" in acts:
    print("CUDA out of memory", file=sys.stderr)
    sys.exit(acts["exit"])
told = dict(item.split("=", 1) for place, item in enumerate(options) if options[place - 1] == "--column")
sample = list(csv.reader(open(of("--sample"), newline="")))
header, ids = sample[0], [row[sample[0].index(next(n for n in told if told[n] == "id"))] for row in sample[1:]]
numbers = {"id": None, "p_a": "0.5", "p_b": "0.25", "p_tie": "0.25", "p_a_without_tie": "0.625",
           "p_b_without_tie": "0.375"}
with open(of("-o"), "w", newline="") as stream:
    writer = csv.writer(stream, lineterminator="\\n")
    writer.writerow(header)
    for name in ids:
        cells = [numbers.get(told[column], "model_a") or name for column in header]
        writer.writerow(cells if not acts.get("spoil") else cells[:-1] + ["7"])
if acts.get("mute"):
    sys.exit(0)
otherwise = round(len(ids) * acts.get("otherwise", 0))
print(json.dumps({"rows": len(ids), "rows_otherwise": otherwise, "reason": "no time" if otherwise else None,
                  "options": options}))
'''


def wheel(
    folder: Path, name: str, version: str, files: dict[str, str] | None = None, *, requires: tuple[str, ...] = (),
    tag: str = "py3-none-any", python: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Write a wheel; gives its entry in `wheelhouse.json`."""
    stem = f"{name.replace('-', '_')}-{version}"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}", *(f"Requires-Dist: {r}" for r in requires)]
    metadata += [f"Requires-Python: {python}"] if python else []
    content = {
        **(files or {f"{name.replace('-', '_')}/__init__.py": f"__version__ = {version!r}\n"}),
        f"{stem}.dist-info/METADATA": "\n".join(metadata) + "\n",
        f"{stem}.dist-info/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    lines = []
    for place, text in content.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{place},sha256={digest},{len(text.encode())}\n")
    content[f"{stem}.dist-info/RECORD"] = "".join(lines) + f"{stem}.dist-info/RECORD,,\n"
    path = folder / f"{stem}-{tag}.whl"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for place, text in content.items():
            archive.writestr(zipfile.ZipInfo(place, (1980, 1, 1, 0, 0, 0)), text)
    return {
        "file": path.name, "name": name, "version": version, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "bytes": path.stat().st_size, "image": False,
    }  # fmt: skip


def pretender(folder: Path, *, requires: tuple[str, ...] = ()) -> dict[str, Any]:
    """The wheel of a `tiebreak` that pretends."""
    files = {"tiebreak/__init__.py": "", "tiebreak/__main__.py": PRETENDER, "tiebreak/cli/__init__.py": "",
             "tiebreak/cli/app.py": ""}  # fmt: skip
    return wheel(folder, "tiebreak", "0.1.0", files, requires=requires)


def house(folder: Path, wheels: list[dict[str, Any]], *, python: str = HERE, torch: str | None = None) -> str:
    """Write `wheelhouse.json`; gives its sha256."""
    document = {
        "format": 1, "python": python, "platform": "manylinux_2_28_x86_64", "tiebreak": "0.1.0", "torch": torch,
        "image_at_least": {"torch": "2.6"} if torch else {}, "requires": [], "wheels": wheels,
    }  # fmt: skip
    text = json.dumps(document, indent=1)
    (folder / "wheelhouse.json").write_text(text)
    return hashlib.sha256(text.encode()).hexdigest()


def data(folder: Path, ids: list[str], *, sampled: list[str] | None = None) -> None:
    """A test file and its sample submission, as Kaggle mounts them; `sampled`: the sample's ids, if they are others."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = "".join(f'{name},"[""q""]","[""a""]","[""b""]"\n' for name in ids)
    (folder / "test.csv").write_text("id,prompt,response_a,response_b\n" + rows)
    columns = ",".join(forms.LMSYS.header)
    rows = "".join(f"{name},0.3,0.3,0.4\n" for name in (ids if sampled is None else sampled))
    (folder / "sample_submission.csv").write_text(f"{columns}\n{rows}")


@dataclass
class Packed:
    """A notebook and what it finds."""

    root: Path
    settings: KernelSettings

    @property
    def input(self) -> Path:
        return self.root / "input"

    @property
    def working(self) -> Path:
        return self.root / "working"

    @property
    def notebook(self) -> Path:
        return self.root / "kernel" / "judge.ipynb"

    @property
    def competition(self) -> Path:
        return self.input / "competitions" / COMPETITION

    @property
    def environment(self) -> dict[str, str]:
        return {"TIEBREAK_KAGGLE_INPUT": str(self.input), "TIEBREAK_KAGGLE_WORKING": str(self.working)}


TORCH_OF_IMAGE = """
class cuda:
    device_count = staticmethod(lambda: 2)
    get_device_name = staticmethod(lambda number: "Tesla T4")
"""


def image_with_gpus(folder: Path, version: str = "2.8.0+cu126") -> Path:
    """A folder of packages as an image has them: a torch that knows two GPUs."""
    (folder / "torch").mkdir(parents=True)
    (folder / "torch" / "__init__.py").write_text(TORCH_OF_IMAGE)
    (folder / f"torch-{version}.dist-info").mkdir()
    (folder / f"torch-{version}.dist-info" / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n"
    )
    return folder


def packed(
    root: Path, acts: dict[str, Any] | None = None, *, network: bool = False, **settings: Any
) -> Packed:  # fmt: skip
    """A pack with the pretender.

    Args:
        root: An empty folder.
        acts: There is a bundle, whose judge behaves so; without, it is the embedded judge.
        network: The judge needs torch; among the wheels is one for the CPU.
        settings: Of the notebook.
    """
    wheels = root / "input" / "datasets" / "someone" / "wheels"
    wheels.mkdir(parents=True)
    torch = {"torch/__init__.py": "class cuda:\n    device_count = staticmethod(lambda: 0)\n"}
    torches = [wheel(wheels, "torch", "2.13.0+cpu", torch) | {"image": True}] if network else []
    own = pretender(wheels, requires=("torch==2.13.0",) if network else ())
    digest = house(wheels, [own, *torches], torch="cpu" if network else None)
    judge = None
    if acts is not None:
        folder = root / "input" / "models" / "someone" / "judge" / "transformers" / "judge" / "1"
        folder.mkdir(parents=True)
        text = json.dumps({"name": "the judge", "kind": "classifier", "acts": acts})
        (folder / "judge.json").write_text(text)
        judge = hashlib.sha256(text.encode()).hexdigest()
    told = KernelSettings(
        competition=COMPETITION, submission=forms.LMSYS, wheelhouse=digest, judge=judge, **settings
    )  # fmt: skip
    made = Packed(root, told)
    data(made.competition, ["7", "3", "5"])
    made.working.mkdir()
    made.notebook.parent.mkdir()
    notebook.write(made.notebook, told, title="A judge", about="A judge that pretends.")
    return made
