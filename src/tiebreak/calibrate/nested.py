"""Which calibration helps, and by how much: nested cross-validation over whole groups.

The outer folds judge a method on rows its map never saw. Where a method has a penalty to choose, an inner
cross-validation chooses it from the training rows of that outer fold alone, so the choice is judged too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from tiebreak.calibrate import alarm
from tiebreak.calibrate.candidates import Candidate, Fitted
from tiebreak.calibrate.families import FAMILIES, METHODS, Family
from tiebreak.calibrate.newton import design, minimise
from tiebreak.calibrate.rows import Rows
from tiebreak.calibrate.scores import Draws, Resampling
from tiebreak.calibration import Calibration
from tiebreak.errors import CollapseError, DataError, UsageError
from tiebreak.scoring import Estimate, row_log_loss

if TYPE_CHECKING:
    from tiebreak.judges.reward import Layer

AS_IS: Final = "none"
"""Name of the row for the probabilities as they came."""

PRIOR: Final = "prior"
"""Name of the row for the class shares of the training rows, said of every row."""

IDENTITY: Final = FAMILIES["temperature"].calibration(np.ones(1))
COMFORTABLE: Final = 50
"""Groups for each parameter below which a note is made."""

_INNER_FOLDS: Final = 4
_INNER_GROUPS: Final = 20_000
"""The penalty is chosen on at most so many groups, drawn at random: it matters only where votes are few."""


def _ignore(step: int) -> None:
    """No progress is shown."""


@dataclass(frozen=True)
class Result:
    """One method, judged out of fold.

    Attributes:
        method: Its name; "none" and "prior" stand for no calibration and for the class shares.
        parameters: How many numbers it fits.
        log_loss: Out-of-fold figures with 95 % intervals, as are `brier`, `ece` and `accuracy`.
        change: Log-loss minus that of the probabilities as they came, paired; below 0 the method helps.
        against_prior: Log-loss minus that of the class prior, paired.
        probabilities: Out-of-fold probabilities of the first repeat, for reliability figures.
        calibration: The map fitted on all rows; None for the prior.
        penalty: The penalty of that fit, where the method has one.
        faults: Why the map should not be used (`tiebreak.calibrate.alarm`); empty when it may.
        layer: The tie model fitted on all rows, where the method is one.
        intervals: Its parameters by name, with 95 % intervals.
    """

    method: str
    parameters: int
    log_loss: Estimate
    brier: Estimate
    ece: Estimate
    accuracy: Estimate
    change: Estimate
    against_prior: Estimate
    probabilities: np.ndarray
    calibration: Calibration | None = None
    penalty: float | None = None
    faults: tuple[str, ...] = ()
    layer: Layer | None = None
    intervals: Mapping[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """All methods on the same rows, folds and resamples.

    Attributes:
        rows: The rows used.
        results: By method, "none" and "prior" first, then from the fewest parameters to the most.
        skipped: Methods that could not be fitted, with the reason.
        best: The simplest method whose log-loss is within noise of the lowest; "none" when nothing beats leaving the
            probabilities as they are.
        folds, repeats, seed: As asked for.
    """

    rows: Rows
    results: dict[str, Result]
    skipped: dict[str, str]
    best: str
    folds: int
    repeats: int
    seed: int

    @property
    def notes(self) -> list[str]:
        """What a careful user should know about this study, in plain words."""
        reasons: dict[str, list[str]] = {}
        for name, reason in self.skipped.items():
            reasons.setdefault(reason, []).append(name)
        said = [f"not fitted: {', '.join(names)}: {reason}" for reason, names in reasons.items()]
        thin = [
            name for name, result in self.results.items() if self.rows.group_count < COMFORTABLE * result.parameters
        ]
        if thin:
            said.append(
                f"{self.rows.group_count} labelled groups are few for {', '.join(thin)}: a map fitted on them may not "
                f"hold elsewhere (better: {COMFORTABLE} a parameter)"
            )
        if self.best in {"vector", "dirichlet"}:
            said.append(
                f"{self.best} wins because it treats A and B differently: the judge has a position bias, which is "
                "better mended by averaging its predictions over both orders"
            )
        for name, result in self.results.items():
            found = alarm.scales(result.calibration) if name == "symmetric" and result.calibration else {}
            if found and abs(found["tie"]) < alarm.SIGN_MARGIN * found["A-against-B"]:
                said.append("the judge knows next to nothing about ties: they get their share of the votes")
        return said

    def calibration(self, method: str = "auto", *, force: bool = False) -> Calibration:
        """The map of a method, or of the best one, fitted on all rows.

        Raises:
            CollapseError: The alarm has something against it and `force` is not given.
            DataError: The method could not be fitted.
        """
        method = self.best if method == "auto" else method
        if method in self.skipped:
            raise DataError(self.skipped[method])
        result = self.results[method]
        if result.calibration is None:
            raise UsageError("the class prior is no calibration", expected=f"one of {', '.join(METHODS)}")
        if not force:
            alarm.refuse(list(result.faults), f"the {method} calibration")
        return result.calibration


def study(
    probabilities: np.ndarray,
    targets: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    methods: Sequence[str] = METHODS,
    folds: int = 5,
    repeats: int = 1,
    weights: np.ndarray | None = None,
    seed: int = 0,
    equivariant: bool = False,
    force: bool = False,
    advance: Callable[[int], None] = _ignore,
) -> Study:
    """Judge calibration methods by nested, grouped cross-validation and fit each on all rows.

    Args:
        probabilities: Shape (rows, 3), made for rows that the judge was not trained on.
        targets: Hard or soft labels, shape (rows, 3); rows with NaN are left out.
        groups: Rows of one group stay together; by default every row is its own group.
        methods: Names out of `METHODS`.
        folds: Outer folds.
        repeats: How often to draw the folds anew; figures are means over repeats.
        weights: Row weights.
        seed: Seed of folds and resamples.
        equivariant: Average each map over both orders, as a bundle applies it.
        force: Fit even where rows are too few for a method.
        advance: Called with 1 after each outer fold of each method.

    Raises:
        DataError: The arrays do not fit together, or there are fewer groups than folds.
        UsageError: A method is unknown.
    """
    families = [_family(name) for name in sorted(methods, key=lambda m: METHODS.index(m) if m in METHODS else -1)]
    rows = Rows.of(probabilities, targets, groups, weights)
    candidates = [_Map(family, equivariant) for family in families]
    return compare(rows, candidates, folds=folds, repeats=repeats, seed=seed, force=force, advance=advance)


def compare(
    rows: Rows,
    candidates: Sequence[Candidate],
    *,
    folds: int = 5,
    repeats: int = 1,
    seed: int = 0,
    force: bool = False,
    advance: Callable[[int], None] = _ignore,
) -> Study:
    """Judge methods of any kind on the same rows, folds and resamples, from the fewest parameters to the most.

    Raises:
        DataError: There are fewer groups than folds.
    """
    assignments = [fold_of(rows, folds, seed + repeat) for repeat in range(repeats)]
    resampling = Resampling(rows.groups, rows.weights, seed)
    out_of_fold = {AS_IS: [rows.probabilities] * repeats, PRIOR: [_prior_out_of_fold(rows, a) for a in assignments]}
    fitted: dict[str, Fitted] = {}
    skipped: dict[str, str] = {}
    for candidate in candidates:
        try:
            rows.check_enough(candidate, force=force)
            out_of_fold[candidate.name] = [
                _out_of_fold(rows, candidate, assignment, seed, advance) for assignment in assignments
            ]
            fitted[candidate.name] = candidate.fit(rows, seed)
        except (DataError, CollapseError) as error:
            out_of_fold.pop(candidate.name, None)
            skipped[candidate.name] = str(error)
    draws = {name: _measure(resampling, rows, repeated) for name, repeated in out_of_fold.items()}
    parameters = {candidate.name: candidate.parameters for candidate in candidates}
    results = {
        name: _result(name, draws, out_of_fold[name][0], fitted.get(name) or _unfitted(name, rows), parameters)
        for name in draws
    }
    return Study(rows, results, skipped, _best(draws), folds, repeats, seed)


@dataclass(frozen=True)
class _Map:
    """An affine map on log-probabilities as a candidate."""

    family: Family
    equivariant: bool

    @property
    def name(self) -> str:
        return self.family.name

    @property
    def parameters(self) -> int:
        return self.family.parameters

    @property
    def has_bias(self) -> bool:
        return self.family.has_bias

    def fit(self, rows: Rows, seed: int) -> Fitted:
        calibration, penalty = fit_rows(rows, self.family, seed)
        apply = calibration.apply_equivariant if self.equivariant else calibration.apply
        return Fitted(lambda other: apply(other.probabilities), _faults(calibration, rows), calibration, penalty)


def fit_rows(rows: Rows, family: Family, seed: int = 0) -> tuple[Calibration, float | None]:
    """Fit one family on all the rows; its penalty, if it has one, is chosen by cross-validation among them."""
    x = design(rows.probabilities)
    penalty = _penalty(rows, family, x, seed)
    return family.calibration(minimise(family, x, rows.targets, rows.shares, penalty or 0.0)), penalty


def fold_of(rows: Rows, folds: int, seed: int) -> np.ndarray:
    """The fold of each row: whole groups, folds of nearly equal size with nearly equal shares of ties.

    A and B are not told apart, so that swapped votes are dealt the same way.

    Raises:
        DataError: There are fewer groups than folds.
    """
    if rows.group_count < folds or folds < 2:
        raise DataError(
            f"{rows.group_count} groups cannot make {folds} folds", expected="from 2 folds up to one for each group"
        )
    sizes = np.bincount(rows.groups)
    share_of_ties = np.bincount(rows.groups, weights=rows.targets[:, 2]) / sizes
    shuffle = np.random.default_rng(seed).random(len(sizes))
    order = np.lexsort((shuffle, share_of_ties, -sizes))
    # Large groups first, each to the fold with the fewest rows; among equal groups that deals ties round robin.
    assigned, filled = np.empty(len(sizes), dtype=np.int64), np.zeros(folds, dtype=np.int64)
    for group in order:
        fold = int(filled.argmin())
        assigned[group] = fold
        filled[fold] += sizes[group]
    result: np.ndarray = assigned[rows.groups]
    return result


def _family(name: str) -> Family:
    if name not in FAMILIES:
        raise UsageError(f"unknown calibration method {name!r}", expected=f"one of {', '.join(METHODS)}")
    return FAMILIES[name]


def _penalty(rows: Rows, family: Family, x: np.ndarray, seed: int) -> float | None:
    if not family.penalties:
        return None
    if rows.group_count > _INNER_GROUPS:
        chosen = np.random.default_rng(seed).permutation(rows.group_count)[:_INNER_GROUPS]
        inner = np.isin(rows.groups, chosen)
        rows, x = rows.take(inner), x[inner]
    folds = fold_of(rows, _INNER_FOLDS, seed)
    losses = np.zeros(len(family.penalties))
    for fold in range(_INNER_FOLDS):
        inside, outside = folds != fold, folds == fold
        shares = rows.weights[inside] / rows.weights[inside].sum()
        for k, penalty in enumerate(family.penalties):
            theta = minimise(family, x[inside], rows.targets[inside], shares, penalty)
            p = family.calibration(theta).apply(rows.probabilities[outside])
            losses[k] += rows.weights[outside] @ row_log_loss(p, rows.targets[outside])
    return family.penalties[int(losses.argmin())]


def _out_of_fold(
    rows: Rows, candidate: Candidate, assignment: np.ndarray, seed: int, advance: Callable[[int], None]
) -> np.ndarray:
    result = np.empty_like(rows.probabilities)
    for fold in range(int(assignment.max()) + 1):
        held_out = assignment == fold
        result[held_out] = candidate.fit(rows.take(~held_out), seed).apply(rows.take(held_out))
        advance(1)
    return result


def _prior_out_of_fold(rows: Rows, assignment: np.ndarray) -> np.ndarray:
    result = np.empty_like(rows.probabilities)
    for fold in range(int(assignment.max()) + 1):
        result[assignment == fold] = rows.take(assignment != fold).prior
    return result


def _measure(resampling: Resampling, rows: Rows, repeated: list[np.ndarray]) -> Draws:
    first, *others = [resampling.measure(p, rows.targets) for p in repeated]
    return first.mean_with(others)


def _faults(calibration: Calibration, rows: Rows) -> tuple[str, ...]:
    has_ties = rows.prior[2] > 0
    return tuple(alarm.fit_faults(calibration, rows.probabilities, rows.weights, has_ties=bool(has_ties)))


def _unfitted(name: str, rows: Rows) -> Fitted:
    """What stands for the probabilities as they came, and for the prior."""
    if name == AS_IS:
        return Fitted(lambda other: other.probabilities, _faults(IDENTITY, rows), IDENTITY)
    return Fitted(lambda other: np.broadcast_to(rows.prior, other.probabilities.shape))


def _result(
    name: str, draws: dict[str, Draws], out_of_fold: np.ndarray, fitted: Fitted, parameters: Mapping[str, int]
) -> Result:
    mine = draws[name]
    against_prior = Estimate.of(mine.log_loss - draws[PRIOR].log_loss)
    return Result(
        method=name,
        parameters=parameters.get(name, 0),
        log_loss=Estimate.of(mine.log_loss),
        brier=Estimate.of(mine.brier),
        ece=Estimate.of(mine.ece, centred=True),
        accuracy=Estimate.of(mine.accuracy),
        change=Estimate.of(mine.log_loss - draws[AS_IS].log_loss),
        against_prior=against_prior,
        probabilities=out_of_fold,
        calibration=fitted.calibration,
        penalty=fitted.penalty,
        faults=() if name == PRIOR else (*fitted.faults, *alarm.skill_faults(against_prior)),
        layer=fitted.layer,
        intervals=fitted.intervals,
    )


def _best(draws: dict[str, Draws]) -> str:
    """The simplest method, in the order of `draws`, that the lowest log-loss does not beat beyond its interval."""
    candidates = [name for name in draws if name != PRIOR]
    lowest = min(candidates, key=lambda name: float(draws[name].log_loss[0]))
    for name in candidates:
        if Estimate.of(draws[name].log_loss - draws[lowest].log_loss).low <= 0:
            return name
    return lowest
