"""From comparisons to a file of predictions: in bounded chunks, in order, resumable after any stop."""

from tiebreak.predict.run import CHUNK_ROWS, Run, identity, predict_file, predict_stream
from tiebreak.predict.write import FORMATS, format_of

__all__ = ["CHUNK_ROWS", "FORMATS", "Run", "format_of", "identity", "predict_file", "predict_stream"]
