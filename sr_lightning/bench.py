"""``make bench``: how fast patches, training steps, measuring and inference are on this machine.

Each figure is the median of interleaved repetitions, beside what it is compared with, measured in
the same minutes on the same cores. The comparison for data is written here after how BasicSR
trains: 480-pixel sub-images as PNG, decoded for every patch, collated sample by sample.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from sr_lightning.baselines.edsr import EDSR
from sr_lightning.cli import quiet
from sr_lightning.colour import rgb_to_y
from sr_lightning.data.compressed import StoreKind
from sr_lightning.data.datamodule import PatchDataModule
from sr_lightning.data.degradation import downscale
from sr_lightning.data.images import read_rgb
from sr_lightning.data.sample import find_photographs
from sr_lightning.errors import UserError
from sr_lightning.inference.engines import ENGINES, with_engine
from sr_lightning.inference.upscale import network_for
from sr_lightning.metrics.protocol import PROTOCOLS
from sr_lightning.metrics.quality import psnr, ssim
from sr_lightning.nn.bicubic import bicubic
from sr_lightning.nn.layers import reference
from sr_lightning.nn.network import SRNetwork
from sr_lightning.nn.precision import layout_of, set_layout
from sr_lightning.papers.cmsc import CMSC
from sr_lightning.papers.cmsc.network import MultiScaleCross, Stage
from sr_lightning.papers.hfdn import HFDN
from sr_lightning.papers.lesrcnn import LESRCNN
from sr_lightning.training.module import SRModule
from sr_lightning.training.precision import MeasuredPrecision
from sr_lightning.weights.zoo import load_weights

__all__ = ["main"]

Row = tuple[str, float, str, float | None]
"""What, value, unit, ratio to the first row of its group (None for the first)."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print.

    Args:
        argv: Options; default: the process's own.
    """
    parser = argparse.ArgumentParser(prog="python -m sr_lightning.bench", description=__doc__)
    groups = {
        "data": data,
        "step": step,
        "fit": fit,
        "overhead": overhead,
        "measure": measure,
        "inference": inference,
        "photographs": photographs,
        "papers": papers,
    }
    parser.add_argument("--only", nargs="+", choices=list(groups), default=list(groups))
    parser.add_argument("--patch", type=int, default=24, help="side of LR patches; default 24")
    parser.add_argument("--out", default="runs/bench/bench.json", help="where the numbers go")
    options = parser.parse_args(argv)
    quiet()
    console = Console(markup=False)
    where = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    console.print(f"{where}, torch {torch.__version__}")
    results: dict[str, Any] = {"machine": where, "torch": torch.__version__, "patch": options.patch}
    for name in options.only:
        for title, rows in groups[name](options.patch):
            console.print(_table(title, rows))
            results[title] = rows
    path = Path(options.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1))
    console.print(f"numbers in {path}")


def _table(title: str, rows: list[Row]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column("median", justify="right")
    table.add_column("ratio", justify="right")
    for what, value, unit, ratio in rows:
        table.add_row(what, f"{_figures(value)} {unit}", "" if ratio is None else f"{ratio:,.2f}x")
    return table


def _figures(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _interleaved(
    calls: dict[str, Callable[[], Any]], repeats: int = 5, warm: int = 1
) -> dict[str, float]:
    """Median seconds of each call; they take turns, so that all see the same noise."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warm + repeats):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            if turn >= warm:
                times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in times.items()}


def _rows(seconds: dict[str, float], shown: Callable[[float], float], unit: str) -> list[Row]:
    """A row for each call; the ratio says how many times faster than the first it is."""
    first = next(iter(seconds.values()))
    return [
        (name, shown(value), unit, None if index == 0 else first / value)
        for index, (name, value) in enumerate(seconds.items())
    ]


def _durations(seconds: dict[str, float]) -> list[Row]:
    return _rows(seconds, lambda value: value * 1e3, "ms")


# ---- data -------------------------------------------------------------------------------------


class SubImages(Dataset[dict[str, Tensor]]):
    """Sub-image pairs as PNG, one decoded and cropped per sample: BasicSR's way of reading."""

    def __init__(self, patch: int, scale: int = 4, side: int = 480) -> None:
        self.patch, self.scale = patch, scale
        self.files: list[tuple[bytes, bytes]] = []
        photographs = find_photographs("sample-train")
        assert photographs is not None
        for path in photographs.files:
            rgb = read_rgb(path)
            for top in range(0, rgb.shape[0] - side + 1, side // 2):
                for left in range(0, rgb.shape[1] - side + 1, side // 2):
                    high = rgb[top : top + side, left : left + side]
                    planes = torch.from_numpy(high.copy()).permute(2, 0, 1)
                    low = downscale(planes, scale).permute(1, 2, 0).numpy()
                    self.files.append((_png(high), _png(low)))

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng(index)
        high, low = (
            np.asarray(Image.open(io.BytesIO(data))).astype(np.float32) / 255
            for data in self.files[index % len(self.files)]
        )
        row, column = rng.integers(0, low.shape[0] - self.patch + 1, 2)
        low = low[row : row + self.patch, column : column + self.patch]
        top, left, side = row * self.scale, column * self.scale, self.patch * self.scale
        high = high[top : top + side, left : left + side]
        turned = []
        for image in (low, high):
            if index & 1:
                image = image[:, ::-1]
            if index & 2:
                image = image[::-1]
            if index & 4:
                image = image.transpose(1, 0, 2)
            turned.append(torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))))
        return {"lr": turned[0], "hr": turned[1]}


def _png(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def _patch_data(
    patch: int, lr_source: str = "cached", store: StoreKind = "decoded"
) -> PatchDataModule:
    data = PatchDataModule(
        train=["sample-train"],
        val=["sample-val"],
        test=[],
        scale=4,
        patch_size=patch,
        weighting="pixel",
        small_images="skip",
        lr_source=lr_source,  # type: ignore[arg-type]
        store=store,
    )
    data.setup("fit")
    return data


def _take(iterator: Any, count: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(count):
            next(iterator)

    return run


def data(patch: int) -> list[tuple[str, list[Row]]]:
    """Patches per second of the loaders, in batches of 16."""
    tables = []
    for side in dict.fromkeys((patch, 48)):
        ours = {
            source: iter(_patch_data(side, source).train_dataloader())
            for source in ("cached", "on_the_fly")
        }
        packed = iter(_patch_data(side, store="compressed").train_dataloader())
        theirs = iter(DataLoader(SubImages(side), batch_size=16))
        # The same number of batches would keep the slow one busy for minutes.
        sources = {
            "PNG sub-images (BasicSR's way)": (theirs, 4),
            "memory map, LR from the whole LR image": (ours["cached"], 200),
            "memory map, LR made from the HR patch": (ours["on_the_fly"], 100),
            "compressed blocks, LR from the whole LR image": (packed, 20),
        }
        seconds = {
            name: _interleaved({"": _take(batches, count)}, warm=2)[""] / count
            for name, (batches, count) in sources.items()
        }
        title = f"Patches per second, HR {4 * side} (x4), one process"
        tables.append((title, _rows(seconds, lambda value: 16 / value, "patches/s")))
    return tables


# ---- training ---------------------------------------------------------------------------------


def _bare_step(
    network: SRNetwork, patch: int, *, bf16: bool, channels_last: bool, fused: bool
) -> Callable[[], None]:
    layout = layout_of(channels_last)
    twin = type(network)(**network.config)
    set_layout(twin, channels_last)
    optimizer = torch.optim.Adam(twin.parameters(), lr=1e-4, fused=fused or None)
    lr = torch.rand(16, 3, patch, patch).to(memory_format=layout)
    hr = torch.rand(16, 3, 4 * patch, 4 * patch).to(memory_format=layout)

    def run() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            predictions = twin.supervised_outputs(lr)
        torch.stack([(p.float() - hr).abs().mean() for p in predictions]).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return run


def step(patch: int) -> list[tuple[str, list[Row]]]:
    """One optimiser step in plain torch: float32 NCHW against the CPU overlay's settings."""
    tables = []
    for network in (EDSR(), HFDN()):
        calls = {
            "float32 NCHW, Adam": _bare_step(
                network, patch, bf16=False, channels_last=False, fused=False
            ),
            "float32 channels last": _bare_step(
                network, patch, bf16=False, channels_last=True, fused=False
            ),
            "bf16 NCHW": _bare_step(network, patch, bf16=True, channels_last=False, fused=False),
            "bf16 channels last, fused Adam": _bare_step(
                network, patch, bf16=True, channels_last=True, fused=True
            ),
        }
        title = f"{type(network).__name__} x4: one step of 16 patches of {patch}"
        tables.append((title, _durations(_interleaved(calls, 5))))
    return tables


class _Seconds(pl.Callback):
    """Times the steps of a fit after its first ones."""

    def __init__(self, skip: int = 3) -> None:
        self.skip, self.marks = skip, list[float]()

    def on_train_batch_end(self, *args: Any) -> None:
        self.marks.append(time.perf_counter())

    @property
    def median(self) -> float:
        marks = self.marks[self.skip :]
        return statistics.median(b - a for a, b in pairwise(marks))


def _fit(module: SRModule, data_: Any, steps: int, plugins: list[Any], root: str) -> float:
    seconds = _Seconds()
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        plugins=plugins,
        callbacks=[seconds],
        default_root_dir=root,
    )
    trainer.fit(module, datamodule=data_)
    return seconds.median


def fit(patch: int) -> list[tuple[str, list[Row]]]:
    """A whole loop, data included: sub-images and float32 against this suite's ``fit``."""
    loader = iter(DataLoader(SubImages(patch), batch_size=16))
    network = EDSR()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)

    def plain() -> None:
        batch = next(loader)
        optimizer.zero_grad()
        (network(batch["lr"]) - batch["hr"]).abs().mean().backward()
        optimizer.step()

    theirs = _interleaved({"": plain}, 5)[""]
    with tempfile.TemporaryDirectory() as root:
        module = SRModule(EDSR(), optimizer=lambda p: torch.optim.Adam(p, lr=1e-4, fused=True))
        ours = _fit(module, _patch_data(patch), 14, [MeasuredPrecision(patch)], root)
    title = f"EDSR-baseline x4, whole training loop, 16 patches of {patch}"
    names = "PNG sub-images, float32 NCHW (BasicSR's way)", "fit with configs/trainer/cpu.yaml"
    return [(title, _durations(dict(zip(names, (theirs, ours), strict=True))))]


class _Still(SRNetwork):
    """A network that does nearly nothing, so that what is around it shows."""

    def __init__(self) -> None:
        super().__init__()
        self.scales = (4,)
        self.conv = nn.Conv2d(3, 48, 1)

    def forward(self, lr: Tensor) -> Tensor:
        return nn.functional.pixel_shuffle(self.conv(lr), 4)


def overhead(patch: int) -> list[tuple[str, list[Row]]]:
    """What Lightning and the suite's module add to a step."""
    data_ = _patch_data(8)
    network = _Still()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    batches = iter(data_.train_dataloader())

    def bare() -> None:
        batch = data_.on_after_batch_transfer(next(batches), 0)
        optimizer.zero_grad()
        (network(batch["lr"]) - batch["hr"]).abs().mean().backward()
        optimizer.step()

    seconds = {"bare loop": _interleaved({"": bare}, 200, warm=20)[""]}
    with tempfile.TemporaryDirectory() as root:
        seconds["fit"] = _fit(SRModule(_Still()), _patch_data(8), 300, [], root)
    rows: list[Row] = [(name, value * 1e3, "ms", None) for name, value in seconds.items()]
    rows.append(("difference", (seconds["fit"] - seconds["bare loop"]) * 1e3, "ms", None))
    return [("A step with a tiny network, 16 patches of 8", rows)]


# ---- measuring and inference ------------------------------------------------------------------


def measure(patch: int) -> list[tuple[str, list[Row]]]:
    """PSNR and SSIM of one image of 1024 x 768 under edsr2017, beside BasicSR's arithmetic."""
    smooth = F.interpolate(torch.rand(1, 3, 96, 128), (768, 1024), mode="bicubic")
    hr = smooth.clamp(0, 1).mul(255).round() / 255
    sr = hr + 0.02 * torch.randn_like(hr)
    protocol = PROTOCOLS["edsr2017"]
    a, b = protocol.prepare(sr, hr, 4)
    planes = [image[0, 0].numpy() for image in (a, b)]
    files = [image[0].permute(1, 2, 0).mul(255).round().clamp(0, 255) for image in (sr, hr)]
    pixels = [image.byte().numpy() for image in files]
    name, whole_windows = _whole_windows()

    def numbers_as_basicsr() -> None:
        _psnr_as_basicsr(*planes)
        _ssim_as_basicsr(whole_windows, *planes)

    def all_as_basicsr() -> None:
        _psnr_as_basicsr(*map(_y_as_basicsr, pixels))
        _ssim_as_basicsr(whole_windows, *map(_y_as_basicsr, pixels))

    of_planes = {name: numbers_as_basicsr, "here": lambda: (psnr(a, b), ssim(a, b))}
    of_images = {name: all_as_basicsr, "here": lambda: protocol.measure(sr, hr, 4)}
    return [
        (f"PSNR and SSIM of a 1024 x 768 {what}", _durations(_interleaved(calls, 15, warm=3)))
        for what, calls in (("plane of Y", of_planes), ("RGB image", of_images))
    ]


Plane = np.ndarray[Any, np.dtype[np.float64]]


def _whole_windows() -> tuple[str, Callable[[Plane, Plane], Plane]]:
    """BasicSR filters with the whole window in OpenCV, which need not be installed."""
    try:
        import cv2
    except ImportError:

        def by_fourier(plane: Plane, window: Plane) -> Plane:
            spectrum = np.fft.rfft2(plane) * np.fft.rfft2(window, plane.shape)
            return np.fft.irfft2(spectrum, plane.shape)[10:, 10:]

        return "BasicSR's arithmetic by numpy (slower than its OpenCV, not here)", by_fourier
    cv2.setNumThreads(torch.get_num_threads())

    def filtered(plane: Plane, window: Plane) -> Plane:
        valid: Plane = cv2.filter2D(plane, -1, window)[5:-5, 5:-5]
        return valid

    return "BasicSR's arithmetic by OpenCV", filtered


def _y_as_basicsr(pixels: np.ndarray[Any, np.dtype[np.uint8]], border: int = 4) -> Plane:
    rgb = pixels[border:-border, border:-border].astype(np.float32) / 255
    y = ((np.dot(rgb, [65.481, 128.553, 24.966]) + 16) / 255).astype(np.float32) * 255
    return np.asarray(y, dtype=np.float64)


def _psnr_as_basicsr(a: Plane, b: Plane) -> float:
    return float(10 * np.log10(255.0**2 / np.mean((a - b) ** 2)))


def _ssim_as_basicsr(mean: Callable[[Plane, Plane], Plane], a: Plane, b: Plane) -> float:
    line = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_a, mean_b = mean(a, window), mean(b, window)
    square_a, square_b, both = mean_a**2, mean_b**2, mean_a * mean_b
    variance_a = mean(a**2, window) - square_a
    variance_b = mean(b**2, window) - square_b
    covariance = mean(a * b, window) - both
    top = (2 * both + c1) * (2 * covariance + c2)
    return float((top / ((square_a + square_b + c1) * (variance_a + variance_b + c2))).mean())


def inference(patch: int) -> list[tuple[str, list[Row]]]:
    """Engines upscaling a photograph of 320 x 180 by 4, with the PSNR beside float32."""
    (image, *_) = find_photographs("sample-val").files  # type: ignore[union-attr]
    pixels = read_rgb(image)[:180, :320]
    lr = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255
    last = lr.contiguous(memory_format=torch.channels_last)
    tables = []
    for name in ("lesrcnn_x4", "hfdn_x4", "edsr_baseline_x4", "cirn_x4"):
        plain, network = load_weights(name), network_for(name, 4, torch.device("cpu"))
        ways: dict[str, Callable[[], Tensor]] = {
            "PyTorch, NCHW": partial(plain.upscale, lr, 4),
            "PyTorch, channels last": partial(network.upscale, last, 4),
        }
        for engine in ENGINES[1:]:
            for fast in (False, True):
                with contextlib.suppress(UserError):
                    run, said = with_engine(network, 4, engine, fast=fast)
                    said += ", fast" if fast else ""
                    if run is not network:
                        ways[said] = partial(run.upscale, last, 4)
        with torch.inference_mode():
            whole = ways["PyTorch, NCHW"]()
            beside = {way: float(psnr(call() * 255, whole * 255)) for way, call in ways.items()}
            calls = {f"{way} ({beside[way]:.0f} dB)": call for way, call in ways.items()}
            title = f"{name}: 320 x 180 to 1280 x 720"
            tables.append((title, _durations(_interleaved(calls, 5))))
    return tables


def photographs(patch: int) -> list[tuple[str, list[Row]]]:
    """The whole command: time and memory for photographs of 0.5 to 48 megapixels."""
    cases: list[tuple[str, float, str, str]] = [
        *(("", 0.5, engine, ".png") for engine in ("torch", "auto")),
        *(("fsrcnn_x4", size, e, ".jpg") for size in (0.5, 2, 12) for e in ("torch", "auto")),
        ("fsrcnn_x4", 48, "auto", ".png"),
    ]
    tables: dict[str, list[Row]] = {}
    (path, *_) = find_photographs("sample-val").files  # type: ignore[union-attr]
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "photo.jpg"
        for weights, megapixels, engine, suffix in cases:
            side = round((megapixels * 1e6) ** 0.5)
            Image.fromarray(read_rgb(path)).resize((side, side)).save(photo)
            options = ["--weights", weights] if weights else []
            command = [sys.executable, "-m", "sr_lightning", "upscale", str(photo), *options]
            command += ["--engine", engine, "--out", str(Path(folder) / f"made{suffix}")]
            begin = time.perf_counter()
            child = subprocess.Popen([*command, "--overwrite"], stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            if child.returncode:
                raise UserError(f"{' '.join(command)} ended with status {child.returncode}.")
            rows = tables.setdefault(" ".join(["sr-lightning upscale photo.jpg", *options]), [])
            what = f"{megapixels:g} MP to {suffix[1:].upper()}, --engine {engine}"
            rows.append((what, time.perf_counter() - begin, "s", None))
            rows.append((f"{what}, peak memory", usage.ru_maxrss / 2**10, "MiB", None))
    return list(tables.items())


# ---- papers beside the most direct expression of their mathematics ----------------------------


def _cmsc_by_the_figure(network: CMSC, lr: Tensor) -> list[Tensor]:
    """CMSC's predictions operation by operation, as the paper's figure has them."""
    y = bicubic(rgb_to_y(lr), network.scale)
    state, predictions = network.extract(y), []
    for stage, reconstruct in zip(network.stages, network.reconstruct, strict=True):
        assert isinstance(stage, Stage)
        a = b = stage.first(F.relu(state))
        for cross in stage.crosses:
            assert isinstance(cross, MultiScaleCross)
            merged = (a + b) / 2
            in_a, in_b = (
                branch.spread(F.relu(branch.narrow(F.relu(x))))
                for branch, x in ((cross.first, a), (cross.second, b))
            )
            a, b = in_a + merged, in_b + merged
        state = in_a + in_b + merged + state
        predictions.append(y + reconstruct(F.relu(state)))
    assembled = [w * p for w, p in zip(network.weights, predictions, strict=True)]
    return [*predictions, torch.stack(assembled).sum(dim=0)]


def _lesrcnn_as_released(network: LESRCNN, lr: Tensor) -> list[Tensor]:
    """LESRCNN with one pass of the upsampler for each end of the IEEB."""
    with reference():
        return network.supervised_outputs(lr)


def papers(patch: int) -> list[tuple[str, list[Row]]]:
    """Steps and inference of LESRCNN and CMSC in float32, beside their layers one by one."""
    tables = []
    written: list[tuple[str, SRNetwork, Callable[[Any, Tensor], list[Tensor]]]] = [
        ("as released", LESRCNN(4), _lesrcnn_as_released),
        ("by the figure", CMSC(4), _cmsc_by_the_figure),
    ]
    for how, network, direct in written:
        twin = type(network)(**network.config)
        set_layout(twin, channels_last=True)
        ways: dict[str, tuple[SRNetwork, Callable[[Any, Tensor], list[Tensor]]]] = {
            f"{how}, NCHW": (network, direct),
            "here, NCHW": (network, type(network).supervised_outputs),
            f"{how}, channels last": (twin, direct),
            "here, channels last": (twin, type(network).supervised_outputs),
        }

        def step(
            net: SRNetwork, way: Callable[[Any, Tensor], list[Tensor]], image: Tensor
        ) -> Callable[[], None]:
            def call() -> None:
                net.zero_grad()
                losses = [prediction.square().mean() for prediction in way(net, image)]
                torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]

            return call

        def upscale(
            net: SRNetwork, way: Callable[[Any, Tensor], list[Tensor]], image: Tensor
        ) -> Callable[[], None]:
            def call() -> None:
                with torch.inference_mode():
                    way(net, image)

            return call

        name = f"{type(network).__name__} x4, float32"
        for title, image, make in (
            (f"forward and backward, 2 patches of {patch}", torch.rand(2, 3, patch, patch), step),
            ("80 x 45 to 320 x 180", torch.rand(1, 3, 45, 80), upscale),
        ):
            calls = {
                key: make(
                    net, way, image.to(memory_format=layout_of(key.endswith("channels last")))
                )
                for key, (net, way) in ways.items()
            }
            tables.append((f"{name}: {title}", _durations(_interleaved(calls, 3))))
    return tables


if __name__ == "__main__":
    main()
