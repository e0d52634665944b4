"""A Kaggle on loopback: it answers the official client's own requests, keeps what it is sent, and fails on command.

Requests are read and answers are built by the client's own types, so that neither side can drift from the protocol.
"""

from __future__ import annotations

import base64
import io
import json
import re
import tarfile
import threading
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USER, KEY = "someone", "0123456789abcdef0123456789abcdef"
TOKEN = "KGAT_" + "feedface" * 4
SUBMISSION = b"id,winner_model_a,winner_model_b,winner_tie\n1,0.2,0.3,0.5\n2,0.6,0.2,0.2\n"
WHEN = datetime(2026, 11, 1, 12, tzinfo=UTC).replace(tzinfo=None)


class RefusedError(Exception):
    """An answer with an error code."""

    def __init__(self, status: int, message: str, *, plain: bool = False) -> None:
        super().__init__(message)
        self.status, self.message, self.plain = status, message, plain


class CutError(Exception):
    """No answer at all: the request was done and the line is cut."""


@dataclass
class Thing:
    """A dataset, a model, an instance or a notebook with its versions."""

    body: dict[str, Any]
    versions: list[dict[str, bytes]] = field(default_factory=list)
    looks: int = 0


@dataclass
class Kaggle:
    """What is on this Kaggle, and how it shall misbehave.

    Attributes:
        lag: Looks at a new version until it is ready.
        faults: By request name, called in turn before the request is done; may raise, or give None for no fault.
        after: The same, after it is done.
        uploads: By file name, status codes that an upload of it gets in turn.
        runs: What GetKernelSessionStatus says in turn; the last one is repeated.
        requests: All requests, as (name, body).
    """

    lag: int = 0
    faults: dict[str, list[Callable[[], None] | None]] = field(default_factory=lambda: defaultdict(list))
    after: dict[str, list[Callable[[], None] | None]] = field(default_factory=lambda: defaultdict(list))
    uploads: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    runs: list[str] = field(default_factory=lambda: ["COMPLETE"])
    failure: str = ""
    outputs: dict[str, bytes] = field(default_factory=lambda: {"submission.csv": SUBMISSION})
    log: str = ""
    datasets: dict[str, Thing] = field(default_factory=dict)
    models: dict[str, Thing] = field(default_factory=dict)
    instances: dict[str, Thing] = field(default_factory=dict)
    kernels: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    submissions: list[dict[str, Any]] = field(default_factory=list)
    competitions: set[str] = field(default_factory=lambda: {"llm-classification-finetuning"})
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    blobs: dict[str, tuple[str, bytes | None]] = field(default_factory=dict)
    uploaded: list[str] = field(default_factory=list)
    url: str = ""

    def names(self) -> list[str]:
        """Requests that changed something."""
        return [name for name, _ in self.requests if re.match(r"Create|Update|Save", name)]

    def answer(self, name: str, body: dict[str, Any]) -> Any:
        self.requests.append((name, body))
        self._misbehave(self.faults[name])
        handler = getattr(self, "_" + re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(), None)
        if handler is None:
            raise RefusedError(501, f"{name} is not built here")
        said = handler(body)
        self._misbehave(self.after[name])
        return said

    @staticmethod
    def _misbehave(faults: list[Callable[[], None] | None]) -> None:
        fault = faults.pop(0) if faults else None
        if fault is not None:
            fault()

    # Sign-in

    def _introspect_token(self, body: dict[str, Any]) -> Any:
        from kagglesdk.security.types.oauth_service import IntrospectTokenResponse as Response

        return _make(Response, active=body["token"] == TOKEN, username=USER if body["token"] == TOKEN else "")

    # Blobs

    def _start_blob_upload(self, body: dict[str, Any]) -> Any:
        from kagglesdk.blobs.types.blob_api_service import ApiStartBlobUploadResponse as Response

        token = f"blob-{len(self.blobs)}"
        self.blobs[token] = (body["name"], None)
        return _make(Response, token=token, create_url=f"{self.url}/upload/{token}?upload_id=signed-{token}-secret")

    def upload(self, token: str, body: bytes, asked: bool) -> int:
        name, held = self.blobs[token]
        if asked:
            return 200 if held is not None else 308
        if self.uploads[name]:
            return self.uploads[name].pop(0)
        self.blobs[token] = (name, body)
        self.uploaded.append(name)
        return 200

    def _files(self, listed: list[dict[str, Any]] | None) -> dict[str, bytes]:
        found = {}
        for file in listed or []:
            name, held = self.blobs[file["token"]]
            if held is None:
                raise RefusedError(400, f"{name} was not uploaded")
            found[name] = held
        return found

    # Datasets

    def _create_dataset(self, body: dict[str, Any]) -> Any:
        id = f"{body['ownerSlug']}/{body['slug']}"
        self.datasets[id] = Thing(body, [self._files(body.get("files"))], self.lag)
        return self._dataset_made(id)

    def _create_dataset_version(self, body: dict[str, Any]) -> Any:
        id = f"{body['ownerSlug']}/{body['datasetSlug']}"
        thing = self._known(self.datasets, id)
        thing.versions.append(self._files(body["body"].get("files")))
        thing.looks = self.lag
        return self._dataset_made(id)

    def _dataset_made(self, id: str) -> Any:
        from kagglesdk.datasets.types.dataset_api_service import ApiCreateDatasetResponse as Response

        return _make(Response, ref=id, url=f"https://www.kaggle.com/datasets/{id}", status="ok")

    def _get_dataset_status(self, body: dict[str, Any]) -> Any:
        from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetStatusResponse as Response
        from kagglesdk.datasets.types.dataset_enums import DatabundleVersionStatus as Status

        thing = self._known(self.datasets, f"{body['ownerSlug']}/{body['datasetSlug']}")
        thing.looks -= 1
        return _make(Response, status=Status.READY if thing.looks < 0 else Status.BLOBS_RECEIVED)

    def _get_dataset(self, body: dict[str, Any]) -> Any:
        from kagglesdk.datasets.types.dataset_api_service import ApiDataset as Response

        thing = self._known(self.datasets, f"{body['ownerSlug']}/{body['datasetSlug']}")
        return _make(Response, id=1, current_version_number=len(thing.versions))

    def _list_dataset_files(self, body: dict[str, Any]) -> Any:
        from kagglesdk.datasets.types.dataset_api_service import ApiDatasetFile as File
        from kagglesdk.datasets.types.dataset_api_service import ApiListDatasetFilesResponse as Response

        thing = self._known(self.datasets, f"{body['ownerSlug']}/{body['datasetSlug']}")
        version = _version(thing, body.get("datasetVersionNumber"))
        files = [_make(File, name=name, total_bytes=len(held), creation_date=WHEN) for name, held in version.items()]
        return _make(Response, dataset_files=files)

    def _get_dataset_metadata(self, body: dict[str, Any]) -> Any:
        from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetMetadataResponse as Response

        return _make(Response)

    def _download_dataset(self, body: dict[str, Any]) -> bytes:
        thing = self._known(self.datasets, f"{body['ownerSlug']}/{body['datasetSlug']}")
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name, held in _version(thing, body.get("datasetVersionNumber")).items():
                archive.writestr(name, held)
        return packed.getvalue()

    # Models

    def _get_model(self, body: dict[str, Any]) -> Any:
        from kagglesdk.models.types.model_api_service import ApiModel as Response

        id = f"{body['ownerSlug']}/{body['modelSlug']}"
        thing = self._known(self.models, id)
        return _make(Response, id=7, ref=id, title=thing.body["title"], slug=body["modelSlug"], is_private=True)

    def _create_model(self, body: dict[str, Any]) -> Any:
        id = f"{body['ownerSlug']}/{body['slug']}"
        if id in self.models:
            return self._model_made(0, error=f"{id} is already in use")
        self.models[id] = Thing(body)
        return self._model_made(len(self.models))

    def _update_model(self, body: dict[str, Any]) -> Any:
        from kagglesdk.models.types.model_api_service import ApiUpdateModelResponse as Response

        self._known(self.models, f"{body['ownerSlug']}/{body['modelSlug']}").body |= body
        return _make(Response, id=7)

    def _model_made(self, id: int, error: str = "") -> Any:
        from kagglesdk.models.types.model_api_service import ApiCreateModelResponse as Response

        return _make(Response, id=id, url=f"https://www.kaggle.com/models/{id}", error=error)

    def _instance(self, body: dict[str, Any]) -> str:
        framework = body["framework"].removeprefix("MODEL_FRAMEWORK_").replace("_", "").lower()
        return f"{body['ownerSlug']}/{body['modelSlug']}/{framework}/{body['instanceSlug']}"

    def _get_model_instance(self, body: dict[str, Any]) -> Any:
        from kagglesdk.models.types.model_api_service import ApiModelInstance as Response

        thing = self._known(self.instances, self._instance(body))
        thing.looks -= 1
        late = thing.looks >= 0
        return _make(Response, id=9, slug=body["instanceSlug"], version_number=len(thing.versions) - late)

    def _create_model_instance(self, body: dict[str, Any]) -> Any:
        id = self._instance({**body, **body["body"]})
        self._known(self.models, "/".join(id.split("/")[:2]))
        self.instances[id] = Thing(body["body"], [self._files(body["body"].get("files"))], self.lag)
        return self._model_made(9)

    def _create_model_instance_version(self, body: dict[str, Any]) -> Any:
        thing = self._known(self.instances, self._instance(body))
        thing.versions.append(self._files(body["body"].get("files")))
        thing.looks = self.lag
        return self._model_made(10)

    def _update_model_instance(self, body: dict[str, Any]) -> Any:
        from kagglesdk.models.types.model_api_service import ApiUpdateModelResponse as Response

        self._known(self.instances, self._instance(body)).body |= body
        return _make(Response, id=9)

    def _list_model_instance_version_files(self, body: dict[str, Any]) -> Any:
        from kagglesdk.models.types.model_api_service import ApiListModelInstanceVersionFilesResponse as Response
        from kagglesdk.models.types.model_api_service import ApiModelFile as File

        version = _version(self._known(self.instances, self._instance(body)), body["versionNumber"])
        files = [_make(File, name=name, size=len(held), creation_date=WHEN) for name, held in version.items()]
        return _make(Response, files=files)

    def _download_model_instance_version(self, body: dict[str, Any]) -> bytes:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            version = _version(self._known(self.instances, self._instance(body)), body["versionNumber"])
            for name, held in version.items():
                member = tarfile.TarInfo(name)
                member.size = len(held)
                archive.addfile(member, io.BytesIO(held))
        return packed.getvalue()

    # Notebooks

    def _save_kernel(self, body: dict[str, Any]) -> Any:
        from kagglesdk.kernels.types.kernels_api_service import ApiSaveKernelResponse as Response

        taken = dict(body)
        gone = [slug for slug in body.get("competitionDataSources", []) if slug not in self.competitions]
        taken["competitionDataSources"] = sorted(self.competitions & set(body.get("competitionDataSources", [])))
        taken["datasetDataSources"] = [id for id in body.get("datasetDataSources", []) if id in self.datasets]
        taken["modelDataSources"] = [
            id for id in body.get("modelDataSources", []) if self._has_version(id) or not id.startswith(USER)
        ]
        versions = self.kernels.setdefault(body["slug"], [])
        versions.append(taken)
        return _make(
            Response, ref=body["slug"], url=f"https://www.kaggle.com/code/{body['slug']}", version_number=len(versions),
            invalid_competition_sources=gone,
        )  # fmt: skip

    def _has_version(self, source: str) -> bool:
        instance, _, number = source.rpartition("/")
        owner, model, framework, slug = instance.split("/")
        thing = self.instances.get(f"{owner}/{model}/{framework.lower()}/{slug}")
        return thing is not None and int(number) <= len(thing.versions)

    def _get_kernel(self, body: dict[str, Any]) -> Any:
        from kagglesdk.kernels.types.kernels_api_service import (
            ApiGetKernelResponse,
            ApiKernelBlob,
            ApiKernelMetadata,
        )

        slug, _, number = body["kernelSlug"].partition("/")
        id = f"{body['userName']}/{slug}"
        versions = self.kernels.get(id, [])
        if not versions or int(number or 1) > len(versions):
            raise RefusedError(403, "Permission 'kernels.get' was denied")
        held = versions[int(number) - 1 if number else -1]
        metadata = _make(
            ApiKernelMetadata, id=3, ref=id, title=held["newTitle"], slug=slug, language="python",
            kernel_type="notebook", is_private=held.get("isPrivate"), enable_gpu=held.get("enableGpu"),
            enable_internet=held.get("enableInternet"), dataset_data_sources=held["datasetDataSources"],
            competition_data_sources=held["competitionDataSources"],
            # As Kaggle does, frameworks are spelled in another way than they were sent.
            model_data_sources=[_respelt(source) for source in held["modelDataSources"]],
            machine_shape=held.get("machineShape"),
        )  # fmt: skip
        blob = _make(ApiKernelBlob, source=held["text"], language="python", kernel_type="notebook", slug=slug)
        return _make(ApiGetKernelResponse, metadata=metadata, blob=blob)

    def _get_kernel_session_status(self, body: dict[str, Any]) -> Any:
        from kagglesdk.kernels.types.kernels_api_service import ApiGetKernelSessionStatusResponse as Response
        from kagglesdk.kernels.types.kernels_enums import KernelWorkerStatus as Status

        if f"{body['userName']}/{body['kernelSlug']}" not in self.kernels:
            raise RefusedError(404, "Not Found", plain=True)
        state = self.runs.pop(0) if len(self.runs) > 1 else self.runs[0]
        return _make(Response, status=Status[state], failure_message=self.failure if state == "ERROR" else None)

    def _list_kernel_session_output(self, body: dict[str, Any]) -> Any:
        from kagglesdk.kernels.types.kernels_api_service import ApiKernelSessionOutputFile as File
        from kagglesdk.kernels.types.kernels_api_service import ApiListKernelSessionOutputResponse as Response

        if f"{body['userName']}/{body['kernelSlug']}" not in self.kernels:
            raise RefusedError(403, "Permission 'kernels.get' was denied")
        files = [_make(File, url=f"{self.url}/output/{name}", file_name=name) for name in self.outputs]
        return _make(Response, files=files, log=self.log)

    def _get_accelerator_quota_statistics(self, body: dict[str, Any]) -> Any:
        # The client's own type loses days on its way to JSON.
        gpu = {"timeUsed": "45000s", "totalTimeAllowed": "108000s"}
        return {"quotaRefreshTime": "2026-11-28T00:00:00Z", "gpuQuota": gpu}

    # Submissions

    def _create_code_submission(self, body: dict[str, Any]) -> Any:
        from kagglesdk.competitions.types.competition_api_service import ApiCreateCodeSubmissionResponse as Response

        if body["competitionName"] not in self.competitions:
            raise RefusedError(404, "Not Found", plain=True)
        self.submissions.insert(0, body)
        return _make(Response, message="Successfully submitted to LLM Classification", ref=100 + len(self.submissions))

    def _get_submission_limits(self, body: dict[str, Any]) -> Any:
        from kagglesdk.competitions.types.competition_api_service import ApiSubmissionLimits as Response

        return _make(Response, num_allowed_now=4)

    def _list_submissions(self, body: dict[str, Any]) -> Any:
        from kagglesdk.competitions.types.competition_api_service import ApiListSubmissionsResponse as Response
        from kagglesdk.competitions.types.competition_api_service import ApiSubmission as Row
        from kagglesdk.competitions.types.submission_status import SubmissionStatus as Status

        rows = [
            _make(
                Row, ref=100 + len(self.submissions) - n, file_name=held["fileName"], date=WHEN,
                description=held.get("submissionDescription"), status=Status.COMPLETE, public_score="1.04321",
            )
            for n, held in enumerate(self.submissions)
        ]  # fmt: skip
        return _make(Response, submissions=rows)

    def _known(self, things: dict[str, Thing], id: str) -> Thing:
        if id not in things:
            raise RefusedError(404, "Not Found", plain=True)
        return things[id]


def _version(thing: Thing, number: int | None) -> dict[str, bytes]:
    if number is not None and number > len(thing.versions):
        raise RefusedError(404, f"there is no version {number}")
    return thing.versions[(number or 0) - 1]


def _respelt(source: str) -> str:
    owner, model, framework, *rest = source.split("/")
    return "/".join([owner, model, framework.title(), *rest])


def _make(kind: Any, **values: Any) -> Any:
    made = kind()
    for name, value in values.items():
        if value is not None:
            setattr(made, name, value)
    return made


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    kaggle: Kaggle

    def log_message(self, *arguments: object) -> None:
        """Tests are silent."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        name = self.path.rpartition("/")[2]
        try:
            if name != "IntrospectToken" and not self._signed_in():
                raise RefusedError(401, "Unauthenticated", plain=True)
            said = self.kaggle.answer(name, json.loads(body or b"{}"))
        except CutError:
            self.close_connection = True
            self.connection.close()
            return
        except RefusedError as refusal:
            document = {} if refusal.plain else {"code": refusal.status, "message": refusal.message}
            self._send(refusal.status, json.dumps(document).encode())
            return
        if isinstance(said, bytes):
            self._send(200, said, "application/octet-stream")
        else:
            self._send(200, json.dumps(said if isinstance(said, dict) else said.to_dict()).encode())

    def do_PUT(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        asked = self.headers.get("Content-Range", "").startswith("bytes */")
        token = self.path.partition("?")[0].rpartition("/")[2]
        self._send(self.kaggle.upload(token, body, asked), b"")

    def do_GET(self) -> None:
        held = self.kaggle.outputs.get(self.path.removeprefix("/output/"))
        self._send(404 if held is None else 200, held or b"<Error>no such output</Error>", "application/octet-stream")

    def _signed_in(self) -> bool:
        said = self.headers.get("Authorization", "")
        basic = base64.b64encode(f"{USER}:{KEY}".encode()).decode()
        return said in (f"Basic {basic}", f"Bearer {TOKEN}")

    def _send(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Sun, 01 Nov 2026 12:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)


class Running:
    """The server, as a context."""

    def __init__(self) -> None:
        self.kaggle = Kaggle()
        handler = type("Handler", (_Handler,), {"kaggle": self.kaggle})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.kaggle.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Kaggle:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self.kaggle

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def refuse(status: int, message: str, *, plain: bool = False) -> Callable[[], None]:
    """A fault: an error code."""

    def fault() -> None:
        raise RefusedError(status, message, plain=plain)

    return fault


def hang_up() -> None:
    """A fault: the line is cut."""
    raise CutError


def stall(seconds: float) -> Callable[[], None]:
    """A fault: nothing happens for a while."""
    return lambda: time.sleep(seconds)
