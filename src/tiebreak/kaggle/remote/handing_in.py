"""Hand a notebook in. A day has few submissions, so what its public run wrote is looked at before."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from tiebreak.errors import DataError
from tiebreak.kaggle.remote import answers, calls, existing, pulling, state, targets
from tiebreak.kaggle.remote.sending import Push
from tiebreak.kaggle.remote.state import Begun, Submitted
from tiebreak.kaggle.remote.targets import Target


def submit(push: Push, kernel: Target, message: str) -> Submitted:
    """Hand in what the version that was pushed writes; once, and only if its public run wrote a valid submission.

    Raises:
        DataError: There is none, or Kaggle refuses it.
    """
    competition, part = targets.competition(kernel), push.pushed.part(kernel.name, kernel.id)
    if part is None:
        raise DataError(f"{kernel.id} was never pushed", mend="tiebreak kaggle push without --only")
    for handed_in in push.pushed.submissions:
        if (handed_in.competition, handed_in.version) == (competition, part.version):
            push.listener.say(f"version {part.version} was handed in on {handed_in.at[:16]}: not again")
            return handed_in
    name, digest = "submission", hashlib.sha256(f"{competition} {part.version} {message}".encode()).hexdigest()
    listed = existing.submissions(push.client, competition)
    begun = push.pushed.started(name, kernel.id, digest)
    mine = [row for row in listed if begun is not None and row.get("ref") not in begun.known
            and row.get("description") == message]  # fmt: skip
    if not mine:
        _hold(push, kernel)
        known = [int(row["ref"]) for row in listed if row.get("ref")]
        with push.noted(name, Begun(id=kernel.id, digest=digest, known=known)):
            call = calls.submit(competition, kernel.id, part.version, message)
            push.listener.say(f"  kaggle: {answers.require(push.client.call(*call)).out.strip()}")
    push.listener.say(f"version {part.version} is handed in to {competition}")
    done = Submitted(competition=competition, version=part.version, message=message)
    push.pushed.submissions.append(done)
    push.pushed.begun.pop(name, None)
    state.write(push.pack, push.pushed)
    return done


def _hold(push: Push, kernel: Target) -> None:
    """Hold what the run wrote against the form of a submission."""
    with tempfile.TemporaryDirectory(prefix="tiebreak-") as name:
        answers.require(push.client.call(*calls.output(kernel.id, Path(name), calls.SUBMISSION)))
        path = Path(name) / calls.OUTPUT
        if not path.is_file():
            raise DataError(
                f"the run of {kernel.id} wrote no {calls.OUTPUT}",
                expected="a submission to hand in",
                mend=f"tiebreak kaggle pull {push.pack.root} -o DIR for its log",
            )
        rows, checked = pulling.check(path, pulling.form_of(push.pack), None)
        push.listener.say(f"  {calls.OUTPUT}: {rows:,} rows{f', held against {checked}' if checked else ''}")
