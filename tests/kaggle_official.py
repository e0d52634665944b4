"""The official client's own code on a folder, its network replaced: what it would send, or that it would not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

USER = "someone"

Calls = dict[str, Callable[[str], Any]]


@dataclass
class Outcome:
    """What the client did with one folder.

    Attributes:
        sent: The request as the JSON that would go over the network; None where there was none.
        error: What it stopped at.
        said: What it printed.
        uploads: Names of the files that it uploaded.
    """

    sent: dict[str, Any] | None
    error: Exception | None
    said: str
    uploads: list[str] = field(default_factory=list)


class Network:
    """Takes every request of the client's API objects and answers as Kaggle does when all is well."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.uploads: list[str] = []
        service = SimpleNamespace(
            save_kernel=self._take,
            create_dataset=self._take,
            create_dataset_version=self._take,
            get_dataset_status=self._unknown,
            create_model=self._take,
            update_model=self._take,
            create_model_instance=self._take,
            update_model_instance=self._take,
            start_blob_upload=self._upload,
        )
        self.kernels = SimpleNamespace(kernels_api_client=service)
        self.datasets = SimpleNamespace(dataset_api_client=service)
        self.models = SimpleNamespace(model_api_client=service)
        self.blobs = SimpleNamespace(blob_api_client=service)

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def _take(self, request: Any) -> Any:
        self.requests.append(json.loads(request.to_json(request)))
        return SimpleNamespace(error="", status="ok", url="", ref="", id=1)

    def _unknown(self, _: Any) -> Any:
        from requests import HTTPError

        raise HTTPError("404")

    def _upload(self, request: Any) -> Any:
        from kagglesdk.blobs.types.blob_api_service import ApiStartBlobUploadResponse

        self.uploads.append(request.name)
        response = ApiStartBlobUploadResponse()
        response.token = f"token of {request.name}"
        response.create_url = "nowhere"
        return response


class Official:
    """The client, without credentials and without a network.

    Args:
        monkeypatch: Puts its network away for the time of a test.
        home: A folder for what it wants to keep.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
        for name in ("KAGGLE_CONFIG_DIR", "TMPDIR"):
            monkeypatch.setenv(name, str(home))
        monkeypatch.setattr("tempfile.tempdir", str(home))
        from kaggle.api import kaggle_api_extended as client

        self.api = client.KaggleApi()
        self.network = Network()
        monkeypatch.setattr(client.KaggleApi, "config_values", {"username": USER})
        monkeypatch.setattr(client.KaggleApi, "build_kaggle_client", lambda _: self.network)
        monkeypatch.setattr(client.KaggleApi, "upload_complete", lambda *_, **__: client.ResumableUploadResult.COMPLETE)

    def push(self, file: Path, capsys: pytest.CaptureFixture[str] | None = None) -> Outcome:
        """Ask the client to create what a metadata file describes, whether it is there or not."""
        return self._call(file, capsys, self._creating())

    def again(self, file: Path) -> Outcome:
        """Ask the client for a new version of what a metadata file describes, or to update it."""
        return self._call(file, None, self._updating())

    def _updating(self) -> Calls:
        return {
            "kernel-metadata.json": self.api.kernels_push,
            "dataset-metadata.json": lambda path: self.api.dataset_create_version(path, "notes", quiet=True),
            "model-metadata.json": self.api.model_update,
            "model-instance-metadata.json": self.api.model_instance_update,
        }

    def _creating(self) -> Calls:
        return {
            "kernel-metadata.json": self.api.kernels_push,
            "dataset-metadata.json": lambda path: self.api.dataset_create_new(path, quiet=True),
            "model-metadata.json": self.api.model_create_new,
            "model-instance-metadata.json": lambda path: self.api.model_instance_create(path, quiet=True),
        }

    def _call(self, file: Path, capsys: pytest.CaptureFixture[str] | None, calls: Calls) -> Outcome:
        self.network.requests.clear()
        self.network.uploads.clear()
        error = None
        try:
            calls[file.name](str(file.parent))
        except Exception as raised:
            error = raised
        sent = self.network.requests[-1] if self.network.requests else None
        return Outcome(sent, error, capsys.readouterr().out if capsys else "", sorted(self.network.uploads))
