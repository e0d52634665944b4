"""The four metadata files of Kaggle, closed: what its client refuses and what it lets pass is told, all at once."""

from tiebreak.kaggle.metadata.dataset import Column, Dataset, Licence, Resource, Schema
from tiebreak.kaggle.metadata.instance import Instance
from tiebreak.kaggle.metadata.kernel import Kernel
from tiebreak.kaggle.metadata.model import Model
from tiebreak.kaggle.metadata.pack import check, problems
from tiebreak.kaggle.metadata.reading import Metadata, MetadataError, Problem

__all__ = [
    "Column",
    "Dataset",
    "Instance",
    "Kernel",
    "Licence",
    "Metadata",
    "MetadataError",
    "Model",
    "Problem",
    "Resource",
    "Schema",
    "check",
    "problems",
]
