"""What a fine-tuning run is: a closed schema, so that a misspelt key is an error and not a default."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tiebreak.judges.base import Base, Head
from tiebreak.judges.generative.verdicts import Verdicts
from tiebreak.render import Template

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Block = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class Part(BaseModel):
    """A part of a recipe; keys beyond those named are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Lora(Part):
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685).

    Attributes:
        r: Rank.
        alpha: Numerator of the scale alpha / r (alpha / sqrt(r) with `rslora`).
        dropout: On the input of each adapter.
        targets: Names of linear modules; "all" stands for every linear module of the blocks.
        layers: First and last block with adapters, counted from 0, both included; null for all.
        rslora: Rank-stabilised scale (arXiv 2312.03732).
    """

    r: Count = 16
    alpha: Positive = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Annotated[list[str], Field(min_length=1)] | Literal["all"] = "all"
    layers: tuple[Block, Block] | None = None
    rslora: bool = False


class Optimiser(Part):
    """How weights move.

    Attributes:
        name: adamw; adamw_8bit and paged_adamw_8bit (bitsandbytes); kahan_adamw (bf16 weights, Kahan-summed).
        lr: Peak learning rate of the backbone or its adapters.
        head_lr: Peak learning rate of the head; null: the same; "rule": backbone rate = (alpha / r) x head rate, solved
            for the head (the rule of the 16th place of LMSYS).
        betas: Of Adam.
        eps: Of Adam.
        weight_decay: Decoupled; never on biases and norms.
        schedule: Shape after the warm-up.
        final_lr: Share of the peak rate that linear or cosine have come down to after the last step.
        warmup: Steps, or (below 1) share of all steps.
        clip: Largest norm of the gradient; null for none.
    """

    name: Literal["adamw", "adamw_8bit", "paged_adamw_8bit", "kahan_adamw"] = "adamw"
    lr: Positive = 1e-4
    head_lr: Positive | Literal["rule"] | None = None
    betas: tuple[Momentum, Momentum] = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    final_lr: Share = 0.0
    warmup: Annotated[float, Field(ge=0)] = 0.05
    clip: Positive | None = 1.0


class Batches(Part):
    """What one optimiser step sees.

    Attributes:
        rows: Votes a step, over all processes and accumulation; a twin or a second template adds sequences, not rows.
        tokens: Tokens of one micro-batch at most (it is what memory allows; gradients do not depend on it).
        packing: padding_free: sequences are concatenated; padded: a rectangle, sequences of like length together.
        twin: Whether the swapped twin of each row is in the same step.
        length_grouped: Whether rows of like length share a step (mega-batches of 50 steps are sorted).
    """

    rows: Count = 16
    tokens: Count = 8192
    packing: Literal["padding_free", "padded"] = "padding_free"
    twin: bool = True
    length_grouped: bool = False


class Loss(Part):
    """What is minimised: a weighted sum of terms, a weighted mean over rows.

    Of a row with a vote y and n teachers with probabilities t_k, where s are the student's probabilities:

    - cross_entropy: -sum y log s, with soft or hard y.
    - kl: T^2 KL(t_k || s), both at temperature T, a term a teacher (Hinton et al. 2015, arXiv 1503.02531).
    - cosine: 1 - cos(t_k, s), a term a teacher (BlackPearl, first place of LMSYS 2024).

    The sum is divided by the sum of the weights of the terms in the row, each teacher's counted. Weights that are null
    are those of the preset.

    Attributes:
        preset: cross_entropy; blackpearl: (CE + sum KL + sum cos) / (1 + 2 n), T = 1; wsdm1: (0.5 CE + KL + cos) / 2.5
            with one teacher, (0.5 CE + sum KL + sum cos) / (0.5 + 2 n) with n; hinton: a T^2 KL + (1 - a) CE, where n
            teachers share a evenly, T = 2; conflict: blackpearl, but a teacher is ignored in a row where it gives the
            vote less than 0.3.
        cross_entropy: Weight of the cross-entropy.
        kl: Weight of each teacher's KL term.
        cosine: Weight of each teacher's cosine term.
        temperature: T of the KL; null: 1, with the preset hinton 2.
        alpha: a of the preset hinton.
        conflict: A teacher whose probability of the vote (of a soft vote y: sum of y t_k) is below this is ignored in
            that row, its terms and their weights; null: never, with the preset conflict 0.3.
        smoothing: Mass moved from the label to the uniform distribution.
        focal: Exponent g of the factor (1 - p_y)^g on the cross-entropy (Lin et al. 2017, arXiv 1708.02002), with
            p_y = sum of y s; 0 is off.
    """

    preset: Literal["cross_entropy", "blackpearl", "wsdm1", "hinton", "conflict"] = "cross_entropy"
    cross_entropy: Annotated[float, Field(ge=0)] | None = None
    kl: Annotated[float, Field(ge=0)] | None = None
    cosine: Annotated[float, Field(ge=0)] | None = None
    temperature: Positive | None = None
    alpha: Share = 0.5
    conflict: Share | None = None
    smoothing: Share = 0.0
    focal: Annotated[float, Field(ge=0)] = 0.0


class Weighting(Part):
    """How much each row counts, beyond its own weight; off by default. Factors have mean 1 over a step.

    Attributes:
        kind: learning_progress: log p(y) of the model less that of its slow copy, relative to the mean of the step;
            teacher_agreement: the teachers' mean probability of the vote; margin: rows on which the teachers' mean
            hardly prefers one answer (|p_a - p_b| up to `margin`) do not count.
        strength: How strongly the factor follows; 0 has no effect. With the kind margin the factor is 1 - strength.
        decay: Of the slow copy (an exponential moving average of the trained weights), a step.
        low: Least factor before it is scaled; not of the kind margin.
        high: Largest factor before it is scaled; not of the kind margin.
        margin: Of the kind margin (0.03 in the second place of WSDM Cup 2025).
    """

    kind: Literal["learning_progress", "teacher_agreement", "margin"] | None = None
    strength: Annotated[float, Field(ge=0)] = 1.0
    decay: Momentum = 0.99
    low: Annotated[float, Field(ge=0)] = 0.5
    high: Positive = 2.0
    margin: Share = 0.03


class Start(Part):
    """Where trained weights begin, if not new: a judge of the same base, adapter and head (post-pretraining).

    Attributes:
        bundle: The judge; null begins anew.
        head: Whether its head is taken too.
    """

    bundle: str | None = None
    head: bool = True


class Evaluation(Part):
    """When the run is measured and saved.

    Attributes:
        every: Steps, or (below 1) share of all steps, between two validations; the last step is always one.
        save_every: Steps, or (below 1) share, between two checkpoints; null: at each validation.
        keep: Checkpoints kept beside the best.
        rows: Validation rows at most; null for all.
        swap: Whether validation averages both orders.
    """

    every: Positive = 0.2
    save_every: Positive | None = None
    keep: Count = 2
    rows: Count | None = None
    swap: bool = True


class Data(Part):
    """Which votes. The command line reads the files; paths are relative to where it runs.

    Attributes:
        train: Files of votes.
        validation: Files of votes held out; null: the share below of the training groups.
        validation_share: Share of the groups held out where no validation file is named and `folds` is 0.
        teachers: Files of soft labels (`tiebreak teach label`), one a teacher, audited; for the terms of the loss.
        support_weight: Weight of rows of every source but the first.
        limit: Rows used at most, drawn with the seed; null for all.
    """

    train: list[str] = Field(default_factory=list)
    validation: list[str] | None = None
    validation_share: Share = 0.1
    teachers: list[str] = Field(default_factory=list)
    support_weight: Share = 1.0
    limit: Count | None = None


class Recipe(Part):
    """One fine-tuning run.

    Attributes:
        name: Name of the judge.
        about: One line for `tiebreak recipe ls`.
        hardware: What it is meant to run on, for `tiebreak recipe ls`.
        judge: classifier reads both answers in one sequence; siamese reads each answer on its own; generative reads
            both and says the verdict with the language model's own head: the loss is on the verdict tokens alone.
        base: The pretrained model.
        head: The layer on top; a generative judge has none but the vocabulary's.
        verdicts: How a generative judge spells each verdict, each spelling one token; null: as suits the template.
        templates: The first renders for validation and prediction; each further one adds a rendering of every row.
        lora: Adapters; null for full fine-tuning.
        quantize: nf4: the frozen base in 4 bits with double quantisation (QLoRA, arXiv 2305.14314).
        precision: Precision of the arithmetic; weights that are trained in full follow `optimiser.name`.
        soft_capping: Whether Gemma 2 keeps the soft caps on attention logits.
        checkpointing: Whether activations are computed again in the backward pass instead of kept.
        freeze: Blocks from the bottom that are not trained in full fine-tuning; embeddings with them.
        start: Whose trained weights the training begins with.
        weighting: How much each row counts.
        self_distil: Train in folds first (`folds`, or 3), on the votes alone, and then once more with their out-of-fold
            predictions as a teacher's; where the loss hears no teacher, with the preset blackpearl.
        folds: 0 trains once; k trains k times and writes out-of-fold predictions.
        epochs: Passes over the rows.
        max_steps: Optimiser steps at most; null for all of the epochs.
        strategy: ddp or fsdp (FSDP2), when started under torchrun.
        seed: Of everything random.
    """

    name: str = "finetuned"
    about: str = ""
    hardware: str = ""
    judge: Literal["classifier", "siamese", "generative"] = "classifier"
    base: Base
    head: Head = Head()
    verdicts: Verdicts | None = None
    templates: Annotated[list[Template], Field(min_length=1)]
    lora: Lora | None = None
    quantize: Literal["nf4"] | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    soft_capping: bool = True
    checkpointing: bool = False
    freeze: Block = 0
    data: Data = Data()
    batches: Batches = Batches()
    loss: Loss = Loss()
    weighting: Weighting = Weighting()
    start: Start = Start()
    self_distil: bool = False
    optimiser: Optimiser = Optimiser()
    evaluation: Evaluation = Evaluation()
    folds: Annotated[int, Field(ge=0)] = 0
    epochs: Positive = 1.0
    max_steps: Count | None = None
    strategy: Literal["ddp", "fsdp"] = "ddp"
    seed: int = 0

    @property
    def trained_dtype(self) -> Literal["float32", "bfloat16"]:
        """Of weights that are trained in full; adapters and the head are float32 beside them."""
        return "bfloat16" if self.optimiser.name == "kahan_adamw" else "float32"

    @property
    def head_lr(self) -> float:
        """Peak learning rate of the head, with the rule applied."""
        wanted = self.optimiser.head_lr
        if wanted == "rule":
            if self.lora is None:  # refused when a recipe is read
                return self.optimiser.lr
            return self.optimiser.lr * self.lora.r / self.lora.alpha
        return self.optimiser.lr if wanted is None else wanted
