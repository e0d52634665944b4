"""What a flow is: a closed schema of data, teachers, student and what happens to it, and what each stage asks for."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.]*(-[a-z0-9.]+)*$", max_length=40)]
Method = Annotated[str, Field(pattern=r"^(tensors|exact|merged|svd(:[1-9][0-9]*)?)$")]

Stage = Literal[
    "data", "pretrain", "teacher", "label", "audit", "combine", "student", "average", "merge", "compress", "predict",
    "ladder",
]  # fmt: skip
STAGES: tuple[Stage, ...] = get_args(Stage)
"""In the order of the chain."""


class Part(BaseModel):
    """A part of a flow; keys beyond those named are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Resources(Part):
    """What one job may use. What is null is that of `resources.default`, else as said here.

    Attributes:
        cpus: Cores, and threads of its arithmetic. [1]
        memory: GiB of main memory. [null: not asked for]
        hours: Wall-clock limit. [null: that of the cluster]
        gpus: GPUs; a training on several is started by torchrun. [0]
        gpu: Kind of GPU, as the cluster names it. [null: any]
        gpu_memory: GiB of one GPU, for the plan's check. [null: not checked]
        price: Of one GPU (without any: of the machine) for an hour, for the plan. [null: no sum]
        partition: Of SLURM.
        account: Of SLURM.
        qos: Of SLURM.
        constraint: Of SLURM.
        options: Further options of sbatch, one string.
    """

    cpus: Count | None = None
    memory: Positive | None = None
    hours: Positive | None = None
    gpus: Annotated[int, Field(ge=0)] | None = None
    gpu: str | None = None
    gpu_memory: Positive | None = None
    price: Annotated[float, Field(ge=0)] | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    options: str | None = None

    def over(self, below: Resources | None) -> Resources:
        """These, and where they are null those below."""
        if below is None:
            return self
        return below.model_copy(update={name: value for name, value in self if value is not None})


class Requests(Part):
    """Resources of each kind of stage; `default` stands below them all."""

    default: Resources = Resources()
    data: Resources | None = None
    pretrain: Resources | None = None
    teacher: Resources | None = None
    label: Resources | None = None
    audit: Resources | None = None
    combine: Resources | None = None
    student: Resources | None = None
    average: Resources | None = None
    merge: Resources | None = None
    compress: Resources | None = None
    predict: Resources | None = None
    ladder: Resources | None = None

    def of(self, stage: Stage) -> Resources:
        """What a stage asks for."""
        own: Resources | None = getattr(self, stage)
        return self.default if own is None else own.over(self.default)


class Data(Part):
    """Which votes, and how they are parted. Paths are relative to where the flow is started.

    Attributes:
        votes: Files of votes, in any known form.
        pairs: Files of preference pairs of another source, for `pretrain`; rows that occur in the votes are dropped.
        pool: Files of pairs without votes; teachers label them, and the student learns from them too.
        test: Share of the groups (near-duplicates stand in one group) that nothing is trained on, or files of votes;
            rows of `votes` that occur in such files are dropped.
        validation: Share of the groups held out for choosing among averages and for the gate of the compression.
        folds: Parts that a teacher and the student are trained on in turn without.
        limit: Votes used at most, from the first; null for all.
        limit_pairs: Pairs used at most.
        limit_pool: Rows of the pool used at most.
    """

    votes: Annotated[list[str], Field(min_length=1)]
    pairs: list[str] = Field(default_factory=list)
    pool: list[str] = Field(default_factory=list)
    test: Annotated[float, Field(gt=0, lt=1)] | Annotated[list[str], Field(min_length=1)] = 0.1
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    folds: Annotated[int, Field(ge=2)] = 5
    limit: Count | None = None
    limit_pairs: Count | None = None
    limit_pool: Count | None = None


class Pretrain(Part):
    """A training on the pairs first, whose weights the folds then start from.

    Attributes:
        changes: To the recipe, beyond those of the folds.
    """

    changes: dict[str, Any] = Field(default_factory=dict)


class Teacher(Part):
    """A judge that is trained in folds, to label the votes it has not seen.

    Attributes:
        name: Names its stages.
        recipe: A recipe of `tiebreak train`, by name or file; or features.
        changes: To the recipe: `{max_steps: 100, lora: {r: 8}}`. Of features: repeats, folds, support.
        pretrain: First on `data.pairs`; null: not.
        shards: Jobs that share the labelling.
        resources: Of its folds, over those of the stage.
    """

    name: Name
    recipe: str
    changes: dict[str, Any] = Field(default_factory=dict)
    pretrain: Pretrain | None = None
    shards: Count = 1
    resources: Resources | None = None


class Combine(Part):
    """From audited labels to what the student is told.

    Attributes:
        calibrate: Family fitted to each teacher's out-of-fold labels.
        method: How several teachers become one label.
        per_teacher: Whether the student sees each teacher, calibrated, or one label of all.
        force: Use teachers that the audit refuses; the student's bundle will say so.
    """

    calibrate: Literal["none", "temperature", "vector", "symmetric", "dirichlet", "dirichlet-symmetric"] = "vector"
    method: Literal["probabilities", "logits", "weights"] = "probabilities"
    per_teacher: bool = True
    force: bool = False


class Mix(Part):
    """Rows of the pool beside the votes.

    Attributes:
        weight: Of a row of the pool beside a vote of weight 1.
        margin: Rows are dropped where the label prefers an answer by no more than this.
        agreement: Drop rows on which the teachers' verdicts differ.
        max_rows: Rows of the pool at most.
    """

    weight: Annotated[float, Field(ge=0)] = 0.5
    margin: Annotated[float, Field(ge=0, le=1)] = 0.03
    agreement: bool = False
    max_rows: Count | None = None


class Student(Part):
    """The judge that is kept.

    Attributes:
        recipe: A recipe of `tiebreak train` with adapters, by name or file.
        changes: To the recipe.
        loss: How votes and teachers weigh; null: as the recipe says.
        pretrain: First on `data.pairs`; null: not.
        control: Train the same folds on votes alone as well, for the ladder.
        resources: Of its folds, over those of the stage.
    """

    recipe: str
    changes: dict[str, Any] = Field(default_factory=dict)
    loss: Literal["cross_entropy", "blackpearl", "wsdm1", "hinton", "conflict"] | None = "blackpearl"
    pretrain: Pretrain | None = None
    control: bool = False
    resources: Resources | None = None


class Average(Part):
    """From one student a fold to one student; all ways are measured, on the validation rows and in the ladder.

    Attributes:
        keep: The way that goes on: tensors, exact, svd:RANK, merged; or best: the smallest of those that the least
            log-loss on the validation rows does not surely beat.
        weights: Of the folds: equal, or oof: by their held-out log-loss.
    """

    keep: Method | Literal["best"] = "best"
    weights: Literal["equal", "oof"] = "equal"


class Compress(Part):
    """The weights of the merged student in fewer bits.

    Attributes:
        method: null leaves them as they are.
        rows: Training rows that calibrate it.
        python: Python of an environment with the quantiser; null: the command makes one on first use.
        force: Keep a result that the gate refuses.
    """

    method: Literal["gptq-8", "gptq-4", "awq-4", "nf4", "int8"] | None = "gptq-8"
    rows: Count = 128
    python: str | None = None
    force: bool = False


class Predict(Part):
    """How the test rows are judged.

    Attributes:
        swap: Orders judged by the finished student; the rungs below are judged in the order of the rows.
        max_length: Tokens of one comparison at most; null: as trained.
        teachers: Whether each teacher's folds judge the test rows for the ladder, beside their mean.
    """

    swap: Literal["both", "none"] = "both"
    max_length: Annotated[int, Field(ge=16)] | None = None
    teachers: bool = True


class Slurm(Part):
    """How jobs reach a cluster with `--executor slurm`.

    Attributes:
        jobs: Jobs that are queued or running at a time at most.
        setup: Commands before each job's own, each a list of words: [[module, load, cuda/12.4]]. Words reach the shell
            quoted; the first is one of module, ml, source, export, conda, mamba, spack.
        requeue: Whether SLURM itself queues a preempted job again; false leaves that to `retries`.
        grace: Seconds before its time limit at which a job is sent SIGTERM, so that a training saves where it is.
        check: Seconds between two looks at the state of the jobs; the plugin waits 10 s longer after each look in vain.
        local: Kinds of stages that run where the flow was started and not as jobs: a job in a queue takes half a
            minute at least, and data, audit, combine and ladder take seconds.
    """

    jobs: Count = 50
    setup: list[Annotated[list[str], Field(min_length=1)]] = Field(default_factory=list)
    requeue: bool = True
    grace: Count = 120
    check: Count = 40
    local: list[Stage] = Field(default_factory=list)


class Assume(Part):
    """What the plan reckons with where it cannot know: how much there is to read, and how fast it goes.

    Attributes:
        votes: Rows of `data.votes`; null: counted, where the files are here.
        pairs: Rows of `data.pairs`.
        pool: Rows of `data.pool`.
        test: Rows of the files in `data.test`.
        tokens: Of a comparison on average, cut as the recipes cut it; null: guessed from the votes.
        training: Share of a GPU's peak rate that a training reaches (model FLOP utilisation).
        judging: Share that labelling and predicting reach.
        compressing: Share that a quantiser reaches.
    """

    votes: Count | None = None
    pairs: Count | None = None
    pool: Count | None = None
    test: Count | None = None
    tokens: Positive | None = None
    training: Annotated[float, Field(gt=0, le=1)] = 0.35
    judging: Annotated[float, Field(gt=0, le=1)] = 0.4
    compressing: Annotated[float, Field(gt=0, le=1)] = 0.1


class Flow(Part):
    """The whole chain.

    Attributes:
        name: Of the flow and of its judge.
        about: One line.
        hardware: What it is meant to run on.
        data: Which votes.
        teachers: Judges that label; without any the student learns from the votes alone.
        combine: From labels to what the student is told.
        mix: Rows of the pool beside the votes.
        student: The judge that is kept.
        average: From one student a fold to one.
        compress: Fewer bits.
        predict: How test rows are judged.
        resources: What each kind of stage asks for.
        slurm: How jobs reach a cluster.
        assume: What the plan reckons with.
        retries: Times that a job is started again after it failed or was stopped.
        seed: Of splits and folds; recipes have their own.
    """

    name: Name = "flow"
    about: str = ""
    hardware: str = ""
    data: Data
    teachers: list[Teacher] = Field(default_factory=list)
    combine: Combine = Combine()
    mix: Mix = Mix()
    student: Student
    average: Average = Average()
    compress: Compress = Compress()
    predict: Predict = Predict()
    resources: Requests = Requests()
    slurm: Slurm = Slurm()
    assume: Assume = Assume()
    retries: Annotated[int, Field(ge=0)] = 1
    seed: int = 0
