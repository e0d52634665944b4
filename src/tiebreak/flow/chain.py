"""The chain: data, teachers, audited labels, student, average, merge, compression, ladder; node by node."""

from __future__ import annotations

from typing import Final

from tiebreak.errors import UsageError
from tiebreak.flow.node import RECIPES, Node
from tiebreak.flow.schema import Flow, Resources, Stage
from tiebreak.flow.trainings import FEATURES, trainings, whole

VOTES: Final = "votes.parquet"
LABELS: Final = "labels.parquet"
PREDICTIONS: Final = "predictions.parquet"
PARTS: Final = "parts"
JUDGE: Final = "judge"
METHODS: Final = ("tensors", "exact", "svd", "merged")
"""Ways of averaging; of whole weights the last alone."""


def nodes(flow: Flow) -> list[Node]:
    """All nodes, each after those that it rests on."""
    return _Chain(flow).build()


def finished(flow: Flow) -> str:
    """Path of the judge that the chain ends in."""
    return f"stages/{'merge' if flow.compress.method is None else 'compress'}/{JUDGE}"


class _Chain:
    """Collects nodes; a node's inputs are found from the paths in its command."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.nodes: dict[str, Node] = {}
        self.recipes, faults = trainings(flow)
        self.rungs: list[tuple[str, str]] = []
        self.audited: list[str] = []
        if faults:
            raise UsageError("; ".join(map(str, faults)))

    def build(self) -> list[Node]:
        self._data()
        for name in self.recipes:
            if name.startswith("pretrain-"):
                self._pretrain(name)
        labels = self._teachers() if self.flow.teachers else []
        data = self._mixed(labels) if self.flow.data.pool else self._at("data-folds")
        if self.flow.student.control:
            self._student("control", self._at("data-folds"), [])
        self._student("student", data, labels)
        self._finish()
        return list(self.nodes.values())

    def add(
        self, name: str, stage: Stage, command: list[str], *outputs: str, about: str,
        files: tuple[str, ...] = (), takes: dict[str, str] | None = None, resources: Resources | None = None,
        recipe: str | None = None, resumable: bool = False,
    ) -> str:  # fmt: skip
        """Add a node and give the path of its main output, which is put where the command says `{}`."""
        default = self.flow.resources.of(stage)
        known = [*command, *(takes or {}).values()]
        node = Node(
            name, stage, tuple(command), tuple(other for other in self.nodes if _reads(known, other)), outputs,
            files=(*files, *([f"{RECIPES}/{recipe}.yaml"] if recipe else [])), takes=takes or {},
            resources=default if resources is None else resources.over(default),
            recipe=self.recipes[recipe] if recipe else None, resumable=resumable, about=about,
        )  # fmt: skip
        self.nodes[name] = node
        return node.output

    def _at(self, name: str) -> str:
        return self.nodes[name].output

    def _part(self, name: str) -> str:
        return f"{self._at('data-split')}/{name}.parquet"

    # --- data

    def _data(self) -> None:
        data, seed = self.flow.data, str(self.flow.seed)
        self._import("data-import", data.votes, data.limit, "the votes in one table")
        self._clean("data-clean", "data-import")
        self._tidy("dedupe", "data-unique", [self._at("data-clean")], "copies dropped, near-duplicates grouped")
        known, shares = "data-unique", {"validation": data.validation}
        if isinstance(data.test, float):
            shares["test"] = data.test
        else:
            self._import("data-test-import", data.test, None, "the test votes in one table")
            self._clean("data-test", "data-test-import")
            known = "data-new"
            self._drop(known, "data-test", self._at("data-unique"), "the votes that are not among the test votes")
        shares = {"train": 1 - sum(shares.values()), **shares}
        written = ",".join(f"{name}={share:.6g}" for name, share in shares.items())
        command = ["data", "split", self._at(known), "--fractions", written, "--seed", seed]
        self.add(
            "data-split",
            "data",
            [*command, "-o", f"stages/data-split/{PARTS}"],
            PARTS,
            about="parts that share no group",
        )
        self._tidy(
            "split", "data-folds", [self._part("train"), "--folds", str(data.folds), "--seed", seed],
            f"the training votes dealt to {data.folds} folds",
        )  # fmt: skip
        if any(name.startswith("pretrain-") for name in self.recipes):
            self._others("pairs", data.pairs, data.limit_pairs, "pairs to train on first")
        if data.pool:
            self._others("pool", data.pool, data.limit_pool, "pairs without votes")

    def _import(self, name: str, files: list[str], limit: int | None, about: str) -> None:
        paths = [whole(file) for file in files]
        more = [] if limit is None else ["--limit", str(limit)]
        command = ["data", "import", *paths, *more, "-o", f"stages/{name}/{VOTES}"]
        self.add(name, "data", command, VOTES, files=tuple(paths), about=about)

    def _tidy(self, verb: str, name: str, arguments: list[str], about: str) -> None:
        self.add(name, "data", ["data", verb, *arguments, "-o", f"stages/{name}/{VOTES}"], VOTES, about=about)

    def _clean(self, name: str, source: str) -> None:
        self._tidy("clean", name, [self._at(source), "--no-label", "drop"], "rows without a vote or answers dropped")

    def _drop(self, name: str, known: str, table: str, about: str) -> None:
        self._tidy("overlap", name, [self._at(known), table, "--drop"], about)

    def _others(self, kind: str, files: list[str], limit: int | None, about: str) -> None:
        """Rows of another source, with ids of their own, without those that occur in the votes."""
        last, first = f"data-{kind}", f"data-{kind}-clean"
        self._import(f"{last}-import", files, limit, about)
        named = [self._at(f"{last}-import"), "--prefix", f"{kind}-"]
        self._tidy("clean", first, named, "ids that tell them from the votes")
        if "data-test" in self.nodes:
            self._drop(f"{last}-new", "data-test", self._at(first), f"{about}, none of the test votes")
            self._drop(last, "data-unique", self._at(f"{last}-new"), f"{about}, none of the votes")
        else:
            self._drop(last, "data-unique", self._at(first), f"{about}, none of the votes")

    # --- trainings

    def _pretrain(self, name: str) -> None:
        whose = name.removeprefix("pretrain-")
        command = ["train", f"{RECIPES}/{name}.yaml", "--data", self._at("data-pairs"), "-o", f"stages/{name}/{JUDGE}"]
        self.add(
            name, "pretrain", command, JUDGE, recipe=name, resumable=True, about=f"{_said(whose)} on the pairs first",
        )  # fmt: skip

    def _fold(
        self, name: str, fold: int, stage: Stage, data: str, labels: list[str], resources: Resources | None
    ) -> str:
        start = f"pretrain-{'student' if name == 'control' else name}"
        begun = [f"start.bundle={self._at(start)}"] if start in self.nodes else []
        told = [word for path in labels for word in ("--teacher", path)]
        node = f"{name}-fold-{fold}"
        command = [
            "train", f"{RECIPES}/{name}.yaml", *begun, "--data", data, "--fold", str(fold), *told,
            "-o", f"stages/{node}/fold-{fold}",
        ]  # fmt: skip
        return self.add(
            node, stage, command, f"fold-{fold}", recipe=name, resumable=True, resources=resources,
            about=f"{_said(name)} without fold {fold}",
        )  # fmt: skip

    def _predict(self, name: str, judge: str, *, swap: str | None, about: str, rung: str) -> str:
        """Judge the test rows; `swap` is None for a judge that reads no tokens."""
        length = self.flow.predict.max_length
        more = [] if length is None else ["--max-length", str(length)]
        orders = [] if swap is None else ["--swap", swap, *more]
        command = ["predict", self._part("test"), "--judge", judge, *orders, "-o", f"stages/{name}/{PREDICTIONS}"]
        path = self.add(name, "predict", command, PREDICTIONS, about=about)
        self.rungs.append((rung, path))
        return path

    # --- teachers

    def _teachers(self) -> list[str]:
        """Fold teachers, their labels, audits and calibrations: the labels that the student is told."""
        rows = self._rows()
        audited = {teacher.name: self._teacher(teacher.name, rows) for teacher in self.flow.teachers}
        self.audited = list(audited.values())
        several = len(audited) > 1
        told = [self._combine(f"combine-{name}", name, [path], rows) for name, path in audited.items()]
        if not several or self.flow.combine.per_teacher:
            if several and self.flow.data.pool:
                self._combine("combine-all", "all teachers", list(audited.values()), rows)
            return told
        return [self._combine("combine-all", "all teachers", list(audited.values()), rows)]

    def _rows(self) -> str:
        """Everything that is labelled: the votes, the pool, and the test rows without their votes."""
        self._tidy(
            "clean", "data-blind", [self._part("test"), "--both-empty", "keep", "--blind"], "test rows, votes gone"
        )
        tables = [self._at(name) for name in ("data-folds", "data-pool", "data-blind") if name in self.nodes]
        self._tidy("import", "data-rows", tables, "all rows that teachers label")
        return self._at("data-rows")

    def _teacher(self, name: str, rows: str) -> str:
        """One teacher: the path of its audited labels, as the commands take it."""
        teacher = next(each for each in self.flow.teachers if each.name == name)
        folds = [self._teacher_fold(name, fold) for fold in range(self.flow.data.folds)]
        judges = [word for path in folds for word in ("--judge", path)]
        shards: dict[str, str] = {}
        for number in range(1, teacher.shards + 1):
            part = f"{number}-of-{teacher.shards}"
            node = f"label-{name}" + (f"-{part}" if teacher.shards > 1 else "")
            file = f"labels.shard-{part}.parquet" if teacher.shards > 1 else LABELS
            share = ["--shard", f"{number}/{teacher.shards}"] if teacher.shards > 1 else []
            command = ["teach", "label", rows, *judges, "--name", name, *share, "-o", f"stages/{node}/{LABELS}"]
            shards[file] = self.add(
                node, "label", command, file, resumable=True,
                about=f"{name} labels the rows that each of its folds has not seen",
            )  # fmt: skip
        audit = f"audit-{name}"
        at = f"stages/{audit}/{LABELS if teacher.shards == 1 else 'labels.shard-*.parquet'}"
        force = ["--force"] if self.flow.combine.force else []
        outputs = [name for file in shards for name in (file, f"{file}.audit.json")]
        self.add(
            audit, "audit", ["teach", "audit", at, "--votes", rows, *force], *outputs,
            takes=shards, about=f"is {name} fit to be learned from?",
        )  # fmt: skip
        return at

    def _teacher_fold(self, name: str, fold: int) -> str:
        teacher = next(each for each in self.flow.teachers if each.name == name)
        kind, data = f"teacher-{name}", self._at("data-folds")
        if teacher.recipe == FEATURES:
            node = f"{kind}-fold-{fold}"
            options = [word for key, value in teacher.changes.items() for word in (f"--{key}", f"{value:g}")]
            command = [
                "train", "features", "--data", data, "--fold", str(fold), "--name", name, *options,
                "-o", f"stages/{node}/fold-{fold}",
            ]  # fmt: skip
            path = self.add(
                node, "teacher", command, f"fold-{fold}", resources=teacher.resources,
                about=f"{_said(kind)} without fold {fold}",
            )  # fmt: skip
        else:
            path = self._fold(kind, fold, "teacher", data, [], teacher.resources)
        if self.flow.predict.teachers:
            about = f"{name} without fold {fold} on the test rows"
            rung = f"{name}, without fold {fold}"
            swap = None if teacher.recipe == FEATURES else "none"
            self._predict(f"predict-{kind}-fold-{fold}", path, swap=swap, about=about, rung=rung)
        return path

    def _combine(self, node: str, name: str, audited: list[str], rows: str) -> str:
        combine = self.flow.combine
        force = ["--force"] if combine.force else []
        method = ["--method", combine.method] if len(audited) > 1 else []
        command = [
            "teach", "combine", *audited, "--votes", rows, "--calibrate", combine.calibrate, *method, "--name", name,
            "--seed", str(self.flow.seed), *force, "-o", f"stages/{node}/{LABELS}",
        ]  # fmt: skip
        path = self.add(
            node, "combine", command, LABELS, f"{LABELS}.audit.json", about=f"labels of {name}, calibrated out of fold"
        )
        if len(audited) == 1:
            self.rungs.append((f"{name}, mean of its folds", audited[0]))
        self.rungs.append((f"{name}, calibrated", path))
        return path

    def _mixed(self, labels: list[str]) -> str:
        mix = self.flow.mix
        told = self._at("combine-all") if "combine-all" in self.nodes else labels[0]
        others = self.audited if mix.agreement and len(self.audited) > 1 else []
        agree = [word for path in others for word in ("--agreement", path)]
        most = [] if mix.max_rows is None else ["--max-rows", str(mix.max_rows)]
        command = [
            "teach", "mix", "--votes", self._at("data-folds"), "--pool", self._at("data-pool"), "--labels", told,
            "--weight", f"{mix.weight:g}", "--margin", f"{mix.margin:g}", *agree, *most,
            "--exclude", self._part("test"), "--exclude", self._part("validation"), "--seed", str(self.flow.seed),
            "-o", f"stages/mix/{VOTES}",
        ]  # fmt: skip
        return self.add("mix", "combine", command, VOTES, about="the votes, and rows of the pool with soft labels")

    # --- student

    def _student(self, name: str, data: str, labels: list[str]) -> None:
        folds = []
        for fold in range(self.flow.data.folds):
            judge = self._fold(name, fold, "student", data, labels, self.flow.student.resources)
            folds.append(judge)
            about, rung = f"{_said(name)} without fold {fold} on the test rows", f"{_said(name)}, without fold {fold}"
            self._predict(f"predict-{name}-fold-{fold}", judge, swap="none", about=about, rung=rung)
        tables = [f"fold-{fold}={self._at(f'predict-{name}-fold-{fold}')}" for fold in range(self.flow.data.folds)]
        blend = f"blend-{name}"
        command = ["combine", "blend", *tables, "--rule", "equal", "--labels", self._part("test")]
        about = f"mean of the probabilities of {_said(name)}"
        path = self.add(
            blend, "ladder", [*command, "-o", f"stages/{blend}/{PREDICTIONS}"], PREDICTIONS, about=about
        )  # fmt: skip
        self.rungs.append((f"{_said(name)}, mean of probabilities", path))
        if name == "student":
            self._average(folds)

    def _average(self, folds: list[str]) -> None:
        """All ways of averaging in one job, so that they are measured once."""
        average = self.flow.average
        command = [
            "combine", "adapters", *folds, "--method", average.keep, "--weights", average.weights,
            "--validation", self._part("validation"), "--each", "stages/average/each",
            "--report", "stages/average/report.json", "-o", f"stages/average/{JUDGE}",
        ]  # fmt: skip
        self.add(
            "average", "average", command, JUDGE, "each", "report.json", about="one student of all folds, four ways"
        )
        whole = self.recipes["student"].lora is None
        for method in METHODS[-1:] if whole else METHODS:
            about, judge = f"the average by {method} on the test rows", f"stages/average/each/{method}"
            self._predict(f"predict-average-{method}", judge, swap="none", about=about, rung=f"averaged, {method}")

    def _finish(self) -> None:
        validation, last = self._part("validation"), "merge"
        command = [
            "combine", "merge", self._at("average"), "--validation", validation, "-o", f"stages/merge/{JUDGE}"
        ]  # fmt: skip
        judge = self.add("merge", "merge", command, JUDGE, about="the adapter merged into its base")
        self._predict("predict-merge", judge, swap="none", about="the merged student on the test rows", rung="merged")
        compress = self.flow.compress
        if compress.method is not None:
            last = "compress"
            python = [] if compress.python is None else ["--python", whole(compress.python)]
            command = [
                "compress", judge, "--method", compress.method, "--calibration", self._at("data-folds"),
                "--validation", validation, "--rows", str(compress.rows), *python,
                *(["--force"] if compress.force else []), "-o", f"stages/compress/{JUDGE}",
            ]  # fmt: skip
            about = f"its weights in {compress.method}"
            judge = self.add("compress", "compress", command, JUDGE, about=about, resumable=True)
            about = "the compressed student on the test rows"
            self._predict("predict-compress", judge, swap="none", about=about, rung=compress.method)
        final = self._at(f"predict-{last}")
        if self.flow.predict.swap == "both":
            about, rung = "the finished student in both orders", "both orders"
            final = self._predict(f"predict-{last}-both", judge, swap="both", about=about, rung=rung)
        test = self._part("test")
        rungs = [f"{name}={path}" for name, path in self.rungs]
        prior = ["--prior", self._at("data-folds")]
        self.add(
            "ladder", "ladder",
            ["flow", "ladder", *rungs, "--labels", test, *prior, "-o", "stages/ladder/ladder"], "ladder",
            about="log-loss of every rung on the test rows",
        )  # fmt: skip
        command = ["evaluate", final, "--labels", test, "-o", "stages/report/report"]
        self.add("report", "ladder", command, "report", about="the finished student in all figures")


def _said(name: str) -> str:
    return {"student": "the student", "control": "the student on votes alone"}.get(name, name.removeprefix("teacher-"))


def _reads(words: list[str], node: str) -> bool:
    return any(f"stages/{node}/" in word for word in words)
