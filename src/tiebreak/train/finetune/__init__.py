"""Fine-tuning a language model on votes: recipe in, judge bundle out. `run.finetune` does it; the rest is in parts.

```
recipe.py      what a run is; read.py reads one, plan.py says beforehand what it will take
modelling.py   recipe -> network and groups of parameters; optimisers.py, kahan.py, schedule.py move them
folding.py     which votes are trained on, which are held out
collating.py   rows -> optimiser steps -> micro-batches; padding.py: the padded way
four_bits.py   keeps 4-bit weights trainable
loop.py        transformers' Trainer with our steps; loss.py; processes.py, sharding.py: several processes
validation.py  scoring held-out votes on the way; progress.py: what is said, history, TensorBoard; doctor.py: findings
checkpoints.py safetensors and JSON on disk; restoring.py: optimisers as tensors; stopping.py: signals
fit.py         one training, gone on with wherever it stopped
bundling.py    the judge that comes out, card.py its card
run.py         finetune(): folds, working folder, bundles, out-of-fold predictions
weighting.py   how much each row counts; slow_copy.py: learning progress against a moving average of the weights
ablation.py    a recipe with and without a change; differences.py: intervals and verdicts
```
"""
