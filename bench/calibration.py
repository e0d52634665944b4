"""Calibration of two fine-tuned LLMs and their means on 14,370 arena votes, and teachers that must be refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bench.machine import target
from tiebreak import calibrate
from tiebreak.calibrate.document import summary
from tiebreak.calibrate.words import describe
from tiebreak.errors import CollapseError
from tiebreak.predictions import softmax

FILE = "kaggle_lmsys_llm_predictions.parquet"
REPEATS = 3


def teachers(frame: pl.DataFrame) -> dict[str, np.ndarray]:
    """Both models, their arithmetic mean, and their geometric mean (the mean of logits)."""
    found = {}
    for model in ("m1", "m2"):
        p = frame.select(f"{model}_a", f"{model}_b", f"{model}_tie").to_numpy()
        found[model] = p / p.sum(axis=1, keepdims=True)
    found["mean of probabilities"] = (found["m1"] + found["m2"]) / 2
    found["mean of logits"] = softmax((np.log(found["m1"]) + np.log(found["m2"])) / 2)
    return found


def worthless(p: np.ndarray) -> dict[str, np.ndarray]:
    """Teachers that no calibration can save, made from a real one."""
    rng = np.random.default_rng(0)
    made_up = np.column_stack([p[:, :2] / p[:, :2].sum(axis=1, keepdims=True) * 0.7, np.full(len(p), 0.3)])
    return {
        "constant": np.tile(p.mean(axis=0), (len(p), 1)),
        "noise": rng.dirichlet([2, 2, 2], size=len(p)),
        "shuffled": rng.permutation(p),
        "inverted": softmax(-np.log(p)),
        "made-up tie": made_up,
    }


def run(data: Path) -> dict[str, Any]:
    """Print the tables; return every figure and the targets."""
    frame = pl.read_parquet(data / FILE)
    targets = np.eye(3)[frame["label"].replace_strict({"a": 0, "b": 1, "tie": 2}).to_numpy()]
    every = teachers(frame)
    figures: dict[str, Any] = {"rows": frame.height, "teachers": {}, "refused": {}}
    for name, p in every.items():
        study = calibrate.study(p, targets, repeats=REPEATS)
        figures["teachers"][name] = summary(study)
        print(f"\n{name}: nested 5-fold CV x {REPEATS}, best {study.best}")
        for result in study.results.values():
            change = f"{result.change.value:+.4f} [{result.change.low:+.4f}, {result.change.high:+.4f}]"
            print(f"  {result.method:20} {result.log_loss}  {change}  ECE {result.ece}  accuracy {result.accuracy}")
        print("  symmetric: " + "; ".join(describe(study.calibration("symmetric"))))
    print("\nteachers that must be refused")
    for name, p in worthless(every["m2"]).items():
        try:
            calibrate.study(p, targets, methods=("symmetric",)).calibration("symmetric")
            figures["refused"][name] = None
        except CollapseError as error:
            figures["refused"][name] = error.wrong
        print(f"  {name:12} {figures['refused'][name] or 'ACCEPTED'}")
    found = figures["teachers"]
    refused = sum(reason is not None for reason in figures["refused"].values())
    change = found["m2"]["methods"]["symmetric"]["change"][2]
    harm = max(teacher["methods"]["symmetric"]["change"][0] for teacher in found.values())
    figures["targets"] = {
        "m2 calibrated: change of log-loss, upper bound": target(change, -0.01, "nats"),
        "symmetric on any of the four: largest loss": target(harm, 0.0005, "nats"),
        "worthless teachers refused, of 5": target(refused, 5, "", at_least=True),
    }
    return figures
