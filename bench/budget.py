"""`python -m bench.budget`: what `tiebreak plan-budget` says beside what was measured.

First the runs that others told of (`tiebreak.budget.points`), then a small run on this machine for each precision.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from tiebreak.budget import Hardware, Lengths, Model, Run, estimate
from tiebreak.budget.points import MEAN, POINTS
from tiebreak.budget.trial import trial


def main() -> None:
    """Print the ratios, and as JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m", help="shape or model on this machine")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each trial, about")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    told = [
        {"name": point.name, "measured_hours": point.hours, "predicted_hours": estimate(point.run()).hours,
         "ratio": point.ratio}
        for point in POINTS
    ]  # fmt: skip
    model, lengths = Model.of(asked.model), Lengths.around(MEAN, 1000)
    trials = []
    for repeat in range(asked.repeats):
        for precision in ("fp32", "bf16"):
            run = Run(model, lengths, Hardware.parse("cpu"), precision, max_length=1024)
            found = trial(run, asked.model, seconds=asked.seconds, seed=repeat)
            trials.append({**asdict(found), "ratio": found.ratio, "share": found.share})
    if asked.json:
        print(json.dumps({"told": told, "trials": trials}, indent=1))
        return
    for each in told:
        print(f"{each['name']:28} measured {each['measured_hours']:.1f} h, predicted {each['predicted_hours']:.2f} h, "
              f"predicted/measured {each['ratio']:.2f}")  # fmt: skip
    for each in trials:
        print(f"{asked.model} {each['precision']} here: {each['tokens']:,} tokens, "
              f"predicted {each['predicted']:.1f} s, measured {each['measured']:.1f} s, "
              f"predicted/measured {each['ratio']:.2f}, share of the matrix rate {each['share']:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
