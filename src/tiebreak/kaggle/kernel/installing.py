"""Install, without the network.

Every wheel is held against its sha256, then installed by pip from the wheelhouse alone (`--no-index --no-deps
--require-hashes`) into a folder of its own: the image is left as it is.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tiebreak.kaggle.kernel.choosing import Wheelhouse
from tiebreak.kaggle.kernel.content import sha256_of
from tiebreak.kaggle.kernel.reporting import NotebookError, Report

LOOK = """
import importlib.metadata, json, sys
found = {"python": sys.version.split()[0], "gpus": []}
for name in ("tiebreak", "polars", "numpy", "torch", "transformers", "peft", "bitsandbytes", "vllm"):
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
import tiebreak.cli.app
if sys.argv[1] == "torch":
    import torch
    found["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
print(json.dumps(found))
"""


def install(folder: Path, packages: Path, environment: dict[str, str], report: Report) -> dict[str, Any]:
    """Install the wheels that this image needs into `packages`; gives what a child then sees: versions and GPUs."""
    house = json.loads((folder / "wheelhouse.json").read_text(encoding="utf-8"))
    check_wheels(folder, house)
    wheelhouse = Wheelhouse(folder, house)
    chosen = wheelhouse.choose()
    for name, why in sorted(wheelhouse.left.items()):
        report.say(f"left to the image: {name} {wheelhouse.version(name)} ({why})")
    report.put(left_to_image={name: wheelhouse.version(name) for name in sorted(wheelhouse.left)})
    run_pip(folder, packages, chosen, environment)
    network = house.get("torch") is not None or any(wheel["name"] == "torch" for wheel in house["wheels"])
    seen = look(environment, torch=network)
    report.say(f"installed {len(chosen)} wheels: " + ", ".join(f"{key} {seen[key]}" for key in seen if key != "gpus"))
    report.put(versions={key: seen[key] for key in seen if key != "gpus"}, gpus=seen["gpus"])
    return {**seen, "network": network}


def check_wheels(folder: Path, house: dict[str, Any]) -> None:
    """Hold every wheel against its sha256."""
    wrong = []
    for wheel in house["wheels"]:
        path = folder / wheel["file"]
        if not path.is_file():
            wrong.append(f"{wheel['file']} is missing")
        elif sha256_of(path) != wheel["sha256"]:
            wrong.append(f"{wheel['file']} was altered")
    if wrong:
        raise NotebookError(
            f"{folder}: {'; '.join(wrong)}",
            expected=f"the {len(house['wheels'])} wheels of wheelhouse.json, byte for byte",
            mend="tiebreak kaggle push once more, and attach that version of the dataset",
        )


def run_pip(folder: Path, packages: Path, chosen: list[dict[str, Any]], environment: dict[str, str]) -> None:
    """Install exactly these wheels."""
    packages.mkdir(parents=True, exist_ok=True)
    lock = packages.parent / "chosen.lock"
    lines = [f"{wheel['name']}=={wheel['version']} --hash=sha256:{wheel['sha256']}\n" for wheel in chosen]
    lock.write_text("".join(lines), encoding="utf-8")
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--no-index", "--no-deps", "--no-compile",
        "--require-hashes", "--root-user-action", "ignore", "--progress-bar", "off", "--upgrade",
        "--find-links", str(folder), "--target", str(packages), "--requirement", str(lock),
    ]  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotebookError(
            f"pip could not install {len(chosen)} wheels (exit code {done.returncode}):\n{done.stderr[-3000:].strip()}",
            mend="tiebreak kaggle check PACK, where it was packed, shows whether the wheels are whole",
        )


def look(environment: dict[str, str], *, torch: bool) -> dict[str, Any]:
    """What a child sees: versions, and the GPUs that torch knows."""
    command = [sys.executable, "-c", LOOK, "torch" if torch else ""]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotebookError(f"what was installed cannot be imported:\n{done.stderr.strip()[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
