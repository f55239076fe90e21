"""A small stand-in for the W&B server, which keeps what ``wandb sync`` uploads.

It speaks what the client (0.31) was seen to ask when offline runs, their files and their artifacts
are uploaded and when reports are saved: ``POST /graphql``, ``POST /files/.../file_stream`` and
``PUT`` to addresses that it gave out itself. How the real server treats what arrives is taken from
the client's queries and from what its users report, and not from its source:

- A run is what has one id in one project. What is not said of it again stays as it was.
- Lines of a file stream stand from their ``offset`` on: a client that starts again at 0 replaces
  what was there. A client that resumes asks for the number of lines first.
- The config and the summary are replaced whole.
- The exit code that was said last decides the state.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

ENTITY = "somebody"
KEY = "0123456789" * 4
"""Has the form of an API key and opens nothing."""


@dataclass
class Run:
    """What the server holds of one run."""

    name: str
    project: str
    said: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    streams: dict[str, list[str]] = field(default_factory=dict)
    exit_codes: list[int] = field(default_factory=list)
    complete: bool = False

    @property
    def history(self) -> list[dict[str, Any]]:
        """What was logged, in order."""
        return [json.loads(line) for line in self.streams.get("wandb-history.jsonl", [])]

    @property
    def summary(self) -> dict[str, Any]:
        """The summary as it is now."""
        return json.loads(self.streams.get("wandb-summary.json", ["{}"])[-1])

    @property
    def state(self) -> str:
        """What the page of the run would say."""
        if not self.complete:
            return "running"
        return "finished" if self.exit_codes[-1] == 0 else "failed"


class WandbServer:
    """Serves on a free port of this machine, as long as it is entered.

    Attributes:
        runs: What was uploaded, by the runs' ids.
        artifacts: By id, with their names, types, manifests and whether they are whole.
        files: Content of what was uploaded, by place.
        views: Reports and workspaces, by id.
        refused: Operations that it does not know.
        received: All that was sent, as it came.
    """

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}
        self.views: dict[str, dict[str, Any]] = {}
        self.refused: list[str] = []
        self.received: list[bytes] = []
        self.lock = Lock()
        self._server = _Server(("127.0.0.1", 0), partial(_Handler, self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> WandbServer:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def projects(self) -> set[str]:
        """Projects that something was uploaded to."""
        return {run.project for run in self.runs.values()}

    def environment(self) -> dict[str, str]:
        """Variables by which a client finds it."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY}

    def place(self, path: str) -> str:
        """An address that a file may be uploaded to."""
        return f"{self.url}/upload/{path}"

    def answer(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        """Answer a GraphQL operation."""
        known: Callable[[dict[str, Any]], Any] | None = getattr(self, f"_on_{name}", None)
        if known is None:
            self.refused.append(name)
            return {"data": None, "errors": [{"message": f"{name} is not known here"}]}
        return {"data": known(given)}

    def stream(self, path: str, sent: dict[str, Any]) -> None:
        """Take a piece of a run's streams; see the head of the file."""
        run = self.runs[path.split("/")[-2]]
        for file, piece in sent.get("files", {}).items():
            lines = run.streams.setdefault(file, [])
            assert piece["offset"] <= len(lines), f"{file} of {run.name} has a gap"
            lines[piece["offset"] :] = piece["content"]
        if "exitcode" in sent:
            run.exit_codes.append(sent["exitcode"])
        run.complete = bool(sent.get("complete"))

    def _on_Viewer(self, _: dict[str, Any]) -> Any:  # noqa: N802
        teams: dict[str, list[Any]] = {"edges": []}
        flags = "{}"
        return {
            "viewer": {
                **{"id": "viewer", "entity": ENTITY, "username": ENTITY, "email": ""},
                **{"flags": flags, "teams": teams},
            }
        }

    _on_GetDefaultEntity = _on_Viewer  # noqa: N815

    def _on_ServerFeaturesQuery(self, _: dict[str, Any]) -> Any:  # noqa: N802
        return {"serverInfo": {"features": []}}

    def _on_UpsertBucket(self, given: dict[str, Any]) -> Any:  # noqa: N802
        new = given["name"] not in self.runs
        run = self.runs.setdefault(given["name"], Run(given["name"], given["project"]))
        run.said |= {key: value for key, value in given.items() if value is not None}
        if given.get("config"):
            run.config = json.loads(given["config"])
        return {"upsertBucket": {"bucket": self._bucket(run), "inserted": new}}

    def _on_RunResumeStatus(self, given: dict[str, Any]) -> Any:  # noqa: N802
        run = self.runs.get(given["name"])
        model = {"id": "project", "name": given["project"], "entity": {"id": "e", "name": ENTITY}}
        return {"model": {**model, "bucket": run and self._bucket(run)}}

    def _on_ProjectInternalId(self, given: dict[str, Any]) -> Any:  # noqa: N802
        known = given["projectName"] in self.projects
        return {"project": {"id": "project", "internalId": "number"} if known else None}

    def _on_GetProjects(self, given: dict[str, Any]) -> Any:  # noqa: N802
        shown = {"entityName": ENTITY, "createdAt": "", "isBenchmark": False, "user": None}
        edges = [
            {"cursor": name, "node": {"id": name, "name": name, **shown}} for name in self.projects
        ]
        return {"models": {"pageInfo": {"endCursor": None, "hasNextPage": False}, "edges": edges}}

    def _on_upsertView(self, given: dict[str, Any]) -> Any:  # noqa: N802
        own = given.get("id") or f"view-{len(self.views)}"
        self.views[own] = given
        place = {"id": "project", "name": given["projectName"], "entityName": given["entityName"]}
        told = {key: given.get(key) for key in ("type", "name", "displayName", "description")}
        view = {"id": own, **told, "project": place, "spec": given["spec"], "updatedAt": None}
        return {"upsertView": {"view": view, "inserted": True}}

    _on_UpsertView2 = _on_upsertView  # noqa: N815

    def _bucket(self, run: Run) -> dict[str, Any]:
        def lines(kind: str) -> list[str]:
            return run.streams.get(kind, [])

        entity = {"id": "entity", "name": ENTITY}
        telemetry = run.config.get("_wandb", {}).get("value", {}).get("t")
        return {
            "id": f"storage-{run.name}",
            "name": run.name,
            "displayName": run.said.get("displayName"),
            "description": None,
            "sweepName": None,
            "project": {"id": "project", "name": run.project, "entity": entity},
            "summaryMetrics": json.dumps(run.summary),
            "logLineCount": len(lines("output.log")),
            "historyLineCount": len(lines("wandb-history.jsonl")),
            "eventsLineCount": len(lines("wandb-events.jsonl")),
            "historyTail": json.dumps(lines("wandb-history.jsonl")[-1:]),
            "eventsTail": json.dumps(lines("wandb-events.jsonl")[-1:]),
            "config": json.dumps(run.config),
            "tags": run.said.get("tags", []),
            "notes": run.said.get("notes"),
            "wandbConfig": json.dumps({} if telemetry is None else {"t": telemetry}),
        }

    def _on_CreateRunFiles(self, given: dict[str, Any]) -> Any:  # noqa: N802
        files = [
            {"name": name, "uploadUrl": self.place(f"{given['run']}/{name}")}
            for name in given["files"]
        ]
        return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}

    def _on_CreateArtifact(self, given: dict[str, Any]) -> Any:  # noqa: N802
        own = f"artifact-{len(self.artifacts)}"
        self.artifacts[own] = {**given["input"], "files": {}, "whole": False}
        sequence = {"latestArtifact": None}
        made = {"id": own, "state": "PENDING", "artifactSequence": sequence}
        return {"createArtifact": {"artifact": made}}

    def _on_CreateArtifactManifest(self, given: dict[str, Any]) -> Any:  # noqa: N802
        path = f"{given['artifactID']}/{given['name']}"
        self.artifacts[given["artifactID"]]["manifest"] = path
        file = {"id": path, "uploadUrl": self.place(path), "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": path, "file": file}}}

    def _on_UpdateArtifactManifest(self, given: dict[str, Any]) -> Any:  # noqa: N802
        path = given["artifactManifestID"]
        file = {"id": path, "uploadUrl": self.place(path), "uploadHeaders": []}
        return {"updateArtifactManifest": {"artifactManifest": {"id": path, "file": file}}}

    def _on_CreateArtifactFiles(self, given: dict[str, Any]) -> Any:  # noqa: N802
        edges = []
        for spec in given["input"]["artifactFiles"]:
            path = f"{spec['artifactID']}/{spec['name']}"
            self.artifacts[spec["artifactID"]]["files"][spec["name"]] = path
            node = {"storagePath": path, "uploadUrl": self.place(path), "uploadHeaders": []}
            more = {"uploadMultipartUrls": None, "artifact": {"id": spec["artifactID"]}}
            edges.append({"node": {**node, **more}})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _on_CommitArtifact(self, given: dict[str, Any]) -> Any:  # noqa: N802
        artifact = self.artifacts[given["artifactID"]]
        artifact["whole"] = True
        committed = {"id": given["artifactID"], "digest": artifact["digest"]}
        return {"commitArtifact": {"artifact": committed}}


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Complain of our mistakes, and not of clients that hang up."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, owner: WandbServer, *args: Any) -> None:
        self.owner = owner
        super().__init__(*args)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        body = self._body()
        with self.owner.lock:
            self.owner.received.append(body)
            if self.path == "/graphql":
                sent = json.loads(body)
                # Python's part of the client does not send the name beside the query.
                (name,) = re.findall(r"^\s*(?:query|mutation)\s+(\w+)", sent["query"])
                self._reply(self.owner.answer(name, sent.get("variables") or {}))
                return
            # The client also sends measurements of itself.
            if self.path.endswith("/file_stream"):
                self.owner.stream(self.path, json.loads(body))
            self._reply({})

    def do_PUT(self) -> None:
        body = self._body()
        with self.owner.lock:
            self.owner.received.append(body)
            self.owner.files[self.path.removeprefix("/upload/")] = body
        self._reply({})

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            body = b"".join(parts)
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _reply(self, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
