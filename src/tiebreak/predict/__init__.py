"""From comparisons to a file of predictions: in bounded chunks, in order, resumable after any stop, by any workers."""

from tiebreak.predict.guard import Guard, predict_guarded
from tiebreak.predict.on_ray import predict_ray
from tiebreak.predict.parts import beside, recall
from tiebreak.predict.progress import Progress
from tiebreak.predict.run import CHUNK_ROWS, Run, identity, predict_file, predict_stream
from tiebreak.predict.sharded import Plan, launched, predict_as_rank, predict_local, predict_torchrun
from tiebreak.predict.worker import Rank
from tiebreak.predict.write import FORMATS, format_of

__all__ = [
    "CHUNK_ROWS", "FORMATS", "Guard", "Plan", "Progress", "Rank", "Run", "beside", "format_of", "identity", "launched",
    "predict_as_rank", "predict_file", "predict_guarded", "predict_local", "predict_ray", "predict_stream",
    "predict_torchrun", "recall",
]  # fmt: skip
