"""The page of ``sr-lightning serve``, in Gradio, and what keeps Gradio's other doors shut."""

from __future__ import annotations

import json
import os
import re
import traceback
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import gradio as gr
from fastapi import FastAPI, Request, Response

from sr_lightning.errors import UserError
from sr_lightning.inference.serve import FORMATS, LARGEST_SCALE, QUALITIES, Uploads

__all__ = ["page_of"]

_MOST_WAITING = 8
_KEPT_SECONDS = 3600
_API = "/gradio_api"
# All that the page asks for, of the hundred addresses that Gradio answers.
_ROUTES = re.compile(
    r"GET /|GET /(config|theme\.css|favicon\.ico|manifest\.json|(assets|static)/.+)|"
    rf"GET {_API}/(startup-events|upload_progress|queue/data|heartbeat/\w+|file=.+)|"
    rf"POST {_API}/(upload|queue/join)"
)
_HEADERS = {
    # The browser itself refuses whatever would leave this machine.
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' blob: data:; "
    "frame-ancestors 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def page_of(uploads: Uploads, *, alone: bool = True) -> FastAPI:
    """The page as an application.

    Args:
        uploads: That do the work.
        alone: Whether only this machine may ask for it, by a name of its own.
    """
    os.environ["GRADIO_TEMP_DIR"] = os.fspath(uploads.folder)

    async def guard(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        refused = await _refusal(request, uploads, alone=alone)
        response = Response(refused[1], refused[0]) if refused else await call_next(request)
        response.headers.update(_HEADERS)
        return response

    app = FastAPI(openapi_url=None)
    app.middleware("http")(guard)
    mounted: FastAPI = gr.mount_gradio_app(
        app,
        _blocks(uploads),
        "/",
        footer_links=[],
        run_history=False,
        max_file_size=_most_bytes(uploads),
        ssr_mode=False,
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
    )
    return mounted


def _blocks(uploads: Uploads) -> gr.Blocks:
    def upscale(
        given: dict[str, Any] | None,
        weights: str,
        scale: float,
        suffix: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (where Gradio looks for it)
    ) -> tuple[Any, ...]:
        try:
            if given is None:
                raise UserError("Choose a photograph first.")
            path, session = given["path"], str(request.session_hash)
            shown, made, text = uploads.upscale(path, weights, scale, suffix, session, progress)
        except (UserError, MemoryError) as error:
            text = str(error) or "There is too little memory for this image; choose a smaller one."
        except Exception:
            # One image must not end the page for the others.
            traceback.print_exc()
            text = "Something unforeseen happened; the server's terminal says more."
        else:
            return shown, gr.update(value=made, interactive=True), text
        return None, gr.update(value=None, interactive=False), text

    def end(request: gr.Request) -> None:
        uploads.end(str(request.session_hash))

    cleaning = (60, _KEPT_SECONDS)
    with gr.Blocks(analytics_enabled=False, title="sr-lightning", delete_cache=cleaning) as blocks:
        gr.Markdown(
            f"# sr-lightning\nEnlarges photographs of up to {uploads.pixels / 1e6:.3g} megapixels, "
            f"in {uploads.seconds / 60:.3g} minutes each at most."
        )
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                given = gr.File(label="Photograph", height=140)
                choices = [(f"{name}: {why}", name) for name, why in QUALITIES.items()]
                choices += [(name, name) for name in uploads.weights]
                weights = gr.Dropdown(choices, value="usual", label="Weights")
                scale = gr.Slider(1, LARGEST_SCALE, LARGEST_SCALE, step=0.1, label="Scale")
                suffix = gr.Radio(list(FORMATS), value="png", label="Save as")
                button = gr.Button("Upscale", variant="primary")
            with gr.Column(scale=2, min_width=320):
                shown = gr.ImageSlider(
                    label="Left: bicubic, right: network", buttons=["fullscreen"], max_height=560
                )
                text = gr.Textbox(label="Result", lines=2, interactive=False)
                download = gr.DownloadButton("Download", interactive=False)
        button.click(
            upscale,
            [given, weights, scale, suffix],
            [shown, download, text],
            # Gradio's own leaves an empty file for each.
            preprocess=False,
            concurrency_limit=1,
            api_visibility="private",
        )
        blocks.unload(end)
    # Otherwise Gradio takes any path of this machine for an upload.
    blocks.has_launched = True
    queued: gr.Blocks = blocks.queue(api_open=False, max_size=_MOST_WAITING)
    return queued


def _most_bytes(uploads: Uploads) -> int:
    """Size of a file of the most pixels: four channels of 16 bits, not packed."""
    return 8 * uploads.pixels


async def _refusal(request: Request, uploads: Uploads, *, alone: bool) -> tuple[int, str] | None:
    """Status and sentence for what the page itself never asks, None for what it does."""
    path, headers = unquote(request.url.path), request.headers
    host, origin = headers.get("host", ""), headers.get("origin")
    # Another page may be at a name that it lets stand for this machine.
    if alone and urlsplit(f"//{host}").hostname not in {"localhost", "127.0.0.1", "::1"}:
        return 403, "This page answers to its own machine alone."
    if origin is not None and urlsplit(origin).netloc != host:
        return 403, "This page answers to no other page."
    if not _ROUTES.fullmatch(f"{request.method} {path}"):
        return 404, "There is nothing here."
    file = path.partition(f"{_API}/file=")[2]
    if file and not uploads.holds(file):
        return 403, "There is no such file."
    length = headers.get("content-length", "")
    most = _most_bytes(uploads) if path.endswith("/upload") else 0
    most += 2**16
    if request.method == "POST" and (not length.isdecimal() or int(length) > most):
        return 413, f"That is too large: at most {most} bytes are taken."
    if path.endswith("/join") and not _is_of_the_page(await request.body(), uploads):
        return 400, "This page asks otherwise."
    return None


def _is_of_the_page(body: bytes, uploads: Uploads) -> bool:
    """Whether a request names no file but an upload; Gradio copies others, by their URL too."""
    try:
        given, weights, scale, suffix = json.loads(body)["data"]
        # Gradio looks for files inside of what is not marked as one.
        held = given is None or (
            given["meta"] == {"_type": "gradio.FileData"} and uploads.holds(given["path"])
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return False
    plain = isinstance(weights, str) and isinstance(suffix, str)
    return held and plain and isinstance(scale, int | float)
