"""Boosted trees in LightGBM's own text format, read and evaluated without LightGBM.

The parser takes numbers out of known fields and nothing else. All trees descend together, level by level, so a
prediction is a handful of numpy operations; leaf values are added tree by tree, in the order LightGBM adds them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Self

import numpy as np

from tiebreak.errors import BundleError

_NODE_FIELDS: Final = ("split_feature", "threshold", "decision_type", "left_child", "right_child", "internal_value")
_PLAIN_SPLITS: Final = (0, 2)
"""Decision types of a numeric split without missing values; bit 1 (the default side) plays no part there."""


@dataclass(frozen=True)
class Forest:
    """All trees in one set of arrays; a node's children are node numbers, a leaf is its own child.

    Attributes:
        feature: The column each node looks at.
        threshold: Values up to this go left.
        children: Node numbers, shape (nodes, 2): right, left.
        value: What the tree would predict if the path ended here; at a leaf, what it predicts.
        roots: The first node of each tree.
        depth: Levels of the deepest tree.
    """

    feature: np.ndarray
    threshold: np.ndarray
    children: np.ndarray
    value: np.ndarray
    roots: np.ndarray
    depth: int

    @classmethod
    def parse(cls, text: str, *, columns: int, where: str = "model.txt") -> Self:
        """Read LightGBM's text format.

        Args:
            text: The content of the file.
            columns: How many features there are; a tree must not look beyond.
            where: Name of the file, for messages.

        Raises:
            BundleError: The file is damaged, or has categorical splits, linear leaves or missing-value splits.
        """
        if not text.startswith("tree\n"):
            raise BundleError(f"{where}: not a LightGBM model", expected="LightGBM's text format")
        try:
            trees = [_tree(block) for block in text.split("\nTree=")[1:]]
        except (KeyError, ValueError, IndexError) as error:
            raise BundleError(f"{where}: not a LightGBM model: {error}", expected="LightGBM's text format") from error
        return cls._join(trees, columns, where)

    @classmethod
    def _join(cls, trees: list[_Tree], columns: int, where: str) -> Self:
        sizes = np.array([len(tree.value) for tree in trees], dtype=np.int64)
        roots = np.cumsum(sizes) - sizes
        empty = np.zeros(0)
        feature = np.concatenate([empty, *(tree.feature for tree in trees)]).astype(np.int64)
        if len(feature) and (feature.min() < 0 or feature.max() >= columns):
            raise BundleError(f"{where}: a tree looks at feature {feature.max()}", expected=f"{columns} features")
        return cls(
            feature=feature,
            threshold=np.concatenate([empty, *(tree.threshold for tree in trees)]),
            children=np.concatenate(
                [np.zeros((0, 2), np.int64), *(tree.children + r for tree, r in zip(trees, roots, strict=True))]
            ),
            value=np.concatenate([empty, *(tree.value for tree in trees)]),
            roots=roots,
            depth=max((tree.depth for tree in trees), default=0),
        )

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """Raw scores of rows of features, as LightGBM's `raw_score`."""
        nodes = self._descend(matrix)[-1]
        total = np.zeros(len(matrix))
        for leaf in self.value[nodes]:
            total += leaf
        return total

    def contributions(self, matrix: np.ndarray) -> np.ndarray:
        """What each feature adds along the paths, shape (rows, features); with `base` they sum to `predict`."""
        result = np.zeros((matrix.shape[1], len(matrix)))
        path = self._descend(matrix)
        rows = np.arange(len(matrix))
        for above, below in pairwise(path):
            for node, child in zip(above, below, strict=True):
                result[self.feature[node], rows] += self.value[child] - self.value[node]
        return result.T

    @property
    def base(self) -> float:
        """The score before any split."""
        return float(self.value[self.roots].sum())

    def _descend(self, matrix: np.ndarray) -> list[np.ndarray]:
        """The nodes on the way down, one array of shape (trees, rows) a level."""
        columns = np.ascontiguousarray(matrix.T).ravel()
        rows = np.arange(len(matrix))
        nodes = np.broadcast_to(self.roots[:, None], (len(self.roots), len(matrix)))
        path = [nodes]
        for _ in range(self.depth):
            values = columns[self.feature[nodes] * len(matrix) + rows]
            nodes = self.children.ravel()[2 * nodes + (values <= self.threshold[nodes])]
            path.append(nodes)
        return path


@dataclass(frozen=True)
class _Tree:
    feature: np.ndarray
    threshold: np.ndarray
    children: np.ndarray
    value: np.ndarray
    depth: int


def _tree(block: str) -> _Tree:
    """One tree: its inner nodes first, then its leaves."""
    fields = dict(line.split("=", 1) for line in block.split("\n\n")[0].splitlines() if "=" in line)
    leaves = _numbers(fields["leaf_value"])
    if int(fields["num_leaves"]) != len(leaves) or int(fields["num_cat"]) or int(fields.get("is_linear", "0")):
        raise ValueError("categorical splits, linear leaves or a wrong number of leaves")
    inner = len(leaves) - 1
    own = np.arange(inner, 2 * inner + 1)
    if inner == 0:
        return _Tree(np.zeros(1), np.zeros(1), np.zeros((1, 2), np.int64), leaves, 0)
    feature, threshold, kind, left, right, value = (_numbers(fields[name]) for name in _NODE_FIELDS)
    if {len(a) for a in (feature, threshold, kind, left, right, value)} != {inner} or not np.isin(
        kind, _PLAIN_SPLITS
    ).all():
        raise ValueError("a field has a wrong length, or a split is not a plain numeric one")
    children = np.stack([right, left], axis=1).astype(np.int64)
    children = np.where(children < 0, inner + ~children, children)
    if children.max() > 2 * inner or (children <= np.arange(inner)[:, None]).any():
        raise ValueError("a child that is not there or leads back")
    return _Tree(
        feature=np.append(feature, np.zeros(inner + 1)),
        threshold=np.append(threshold, np.zeros(inner + 1)),
        children=np.concatenate([children, np.stack([own, own], axis=1)]),
        value=np.append(value, leaves),
        depth=_depth(children, inner),
    )


def _depth(children: np.ndarray, inner: int) -> int:
    """Levels below the root. A child always has a larger number than its parent, so one pass is enough."""
    level = np.zeros(2 * inner + 1, dtype=np.int64)
    for node in range(inner):
        level[children[node]] = level[node] + 1
    return int(level.max())


def _numbers(field: str) -> np.ndarray:
    values = np.array([float(part) for part in field.split()])
    if not np.isfinite(values).all():
        raise ValueError("a number that is not finite")
    return values
