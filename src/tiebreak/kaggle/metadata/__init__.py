"""The four metadata files of Kaggle, closed: what its client refuses and what it lets pass is told, all at once."""

# Rules register themselves with the model they are about.
from tiebreak.kaggle.metadata import (
    dataset_rules,
    folders,
    instance_rules,
    kernel_rules,
    licences,
    machines,
    model_rules,
    notebooks,
    slugs,
    sources,
)
from tiebreak.kaggle.metadata.dataset import Column, Dataset, Licence, Resource, Schema
from tiebreak.kaggle.metadata.instance import Instance
from tiebreak.kaggle.metadata.kernel import Kernel
from tiebreak.kaggle.metadata.model import Model
from tiebreak.kaggle.metadata.pack import check, problems
from tiebreak.kaggle.metadata.problem import MetadataError, Problem
from tiebreak.kaggle.metadata.schema import Metadata

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
    "dataset_rules",
    "folders",
    "instance_rules",
    "kernel_rules",
    "licences",
    "machines",
    "model_rules",
    "notebooks",
    "problems",
    "slugs",
    "sources",
]
