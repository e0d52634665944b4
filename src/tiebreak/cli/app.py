"""The tree of verbs."""

from __future__ import annotations

from typing import Annotated

import typer

import tiebreak
from tiebreak.cli import (
    ablate,
    attack,
    baselines,
    calibrate,
    clean,
    combine,
    compare,
    compress,
    console,
    dedupe,
    demo,
    evaluate,
    flow,
    import_,
    kaggle,
    overlap,
    plan_budget,
    predict,
    recipe,
    split,
    stats,
    teach,
    train_features,
    train_retrieval,
    wrap,
    wrap_generative,
    wrap_reward,
    wrap_served,
)
from tiebreak.cli import train as finetune

app = typer.Typer(
    name="tiebreak",
    help="Which of two LLM answers would a person prefer? P(A), P(B), P(tie), calibrated.",
    epilog="Start: tiebreak compare --prompt 'What is 2 + 2?' --a '4' --b 'It is 5.' --explain",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
data = typer.Typer(
    help="Bring votes in and make them fit for use: import, clean, dedupe, split, overlap, stats.",
    no_args_is_help=True,
)
train = typer.Typer(
    cls=finetune.Group,
    help="Train a judge on votes: a language model by a RECIPE (a YAML file, or the name of one that ships; see "
    "`tiebreak recipe ls`), or counted features of the answers.",
    epilog="Start: tiebreak train smollm2-135m-lora --data train.csv --dry-run",
    no_args_is_help=True,
)
recipes = typer.Typer(help="The recipes that ship for `tiebreak train RECIPE`: ls, show, cp.", no_args_is_help=True)

wraps = typer.Typer(
    cls=wrap.Group,
    help="Make a judge of a model that was trained elsewhere: a CHECKPOINT of a 3-class classifier, a generative "
    "model, one behind a server, or a reward model.",
    epilog="Start: tiebreak wrap generative CHECKPOINT -o judge",
    no_args_is_help=True,
)


def _version(wanted: bool) -> None:
    if wanted:
        console.emit(f"tiebreak {tiebreak.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No messages and no progress; errors only.")] = False,
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    console.be_quiet(quiet)


# In the order of a user's way, which is the order of `tiebreak --help`.
app.command("demo", epilog=demo.EPILOG)(demo.command)
app.command("compare", epilog=compare.EPILOG)(compare.command)
app.command("predict", epilog=predict.EPILOG)(predict.command)
app.command("evaluate", epilog=evaluate.EPILOG)(evaluate.command)
app.command("calibrate", epilog=calibrate.EPILOG)(calibrate.command)
app.command("baselines", epilog=baselines.EPILOG)(baselines.command)
app.add_typer(data, name="data")
data.command("import", epilog=import_.EPILOG)(import_.command)
data.command("stats", epilog=stats.EPILOG)(stats.command)
data.command("clean", epilog=clean.EPILOG)(clean.command)
data.command("dedupe", epilog=dedupe.EPILOG)(dedupe.command)
data.command("overlap", epilog=overlap.EPILOG)(overlap.command)
data.command("split", epilog=split.EPILOG)(split.command)
app.add_typer(train, name="train")
train.command(finetune.RECIPE, epilog=finetune.EPILOG)(finetune.command)
train.command("features", epilog=train_features.EPILOG)(train_features.command)
train.command("retrieval", epilog=train_retrieval.EPILOG)(train_retrieval.command)
app.add_typer(recipes, name="recipe")
recipes.command("ls", epilog=recipe.LS_EPILOG)(recipe.ls)
recipes.command("show", epilog=recipe.SHOW_EPILOG)(recipe.show)
recipes.command("cp", epilog=recipe.CP_EPILOG)(recipe.cp)
app.add_typer(wraps, name="wrap")
wraps.command(wrap.CHECKPOINT, epilog=wrap.EPILOG)(wrap.command)
wraps.command("generative", epilog=wrap_generative.EPILOG)(wrap_generative.command)
wraps.command("served", epilog=wrap_served.EPILOG)(wrap_served.command)
wraps.command("reward", epilog=wrap_reward.EPILOG)(wrap_reward.command)
app.command("ablate", epilog=ablate.EPILOG)(ablate.command)
app.add_typer(teach.app, name="teach")
app.add_typer(combine.app, name="combine")
app.command("compress", epilog=compress.EPILOG)(compress.command)
app.command("attack", epilog=attack.EPILOG)(attack.command)
app.command("plan-budget", epilog=plan_budget.EPILOG)(plan_budget.command)
app.add_typer(flow.app, name="flow")
app.add_typer(kaggle.app, name="kaggle")
