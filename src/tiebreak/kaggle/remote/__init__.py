"""A pack to Kaggle and its outputs back, by the official client."""

from tiebreak.kaggle.remote.client import Client, program, shell
from tiebreak.kaggle.remote.credentials import Credentials, find
from tiebreak.kaggle.remote.plan import Only, Step, Wishes, foresee
from tiebreak.kaggle.remote.pulling import Pulled, archive, form_of, outputs
from tiebreak.kaggle.remote.pushing import send, session, submit, wait
from tiebreak.kaggle.remote.sending import Done, Push
from tiebreak.kaggle.remote.standing import Status, questions, status
from tiebreak.kaggle.remote.waiting import Pace

__all__ = [
    "Client",
    "Credentials",
    "Done",
    "Only",
    "Pace",
    "Pulled",
    "Push",
    "Status",
    "Step",
    "Wishes",
    "archive",
    "find",
    "foresee",
    "form_of",
    "outputs",
    "program",
    "questions",
    "send",
    "session",
    "shell",
    "status",
    "submit",
    "wait",
]
