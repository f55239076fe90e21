"""``sr-lightning export hfdn_x4``: a network as ONNX or as a PyTorch program, checked.

The file takes images of any size and number, or of one size where an engine wants that. Before it
is left, it is run beside the network on sizes that it was not traced with; one that does not give
the network's images is not left at all.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from sr_lightning import __version__
from sr_lightning.errors import UserError
from sr_lightning.files import check_place, written_whole
from sr_lightning.inference.upscale import network_for, usual_scale
from sr_lightning.nn.network import SRNetwork
from sr_lightning.weights.zoo import PROTOCOL, WeightRecord, find_weights

__all__ = ["Exported", "export", "facts", "main"]

# A tenth of a level of 8 bits: no engine's order of summation comes near.
_TOLERANCE = 0.1 / 255
_TRACED = (2, 3, 37, 29)
_FREE = {0: "batch", 2: "height", 3: "width"}
_FORMATS = (".onnx", ".pt2")


@dataclass(frozen=True)
class Exported:
    """A file that was made and checked.

    Attributes:
        path: Path of the file.
        inputs: Shape that it takes, numbers and names.
        outputs: Shape that it gives.
        largest_difference: Largest difference from the network, of RGB in [0, 1], over all checked
            pixels.
    """

    path: Path
    inputs: tuple[int | str, ...]
    outputs: tuple[int | str, ...]
    largest_difference: float


class _AtScale(nn.Module):
    """A network at one of its scales, as a function of images alone."""

    def __init__(self, network: SRNetwork, scale: float) -> None:
        super().__init__()
        self.network = network
        self.scale = int(scale) if float(scale).is_integer() else scale

    def forward(self, lr: Tensor) -> Tensor:
        return self.network.upscale(lr, self.scale)


def export(
    network: SRNetwork,
    path: Path,
    scale: float,
    *,
    size: tuple[int, int] | None = None,
    notes: dict[str, str] | None = None,
) -> Exported:
    """Write a network as a file that runs without this package.

    Its input ``lr`` and output ``sr`` are what the network's are: (N, 3, H, W) RGB float32 in
    [0, 1], the output not clamped.

    Args:
        network: Network in evaluation mode, on the CPU, in float32.
        path: Ending in ``.onnx`` (ONNX, for onnxruntime, TensorRT, OpenVINO, ...) or ``.pt2``
            (for ``torch.export.load``); a file that is there is replaced.
        scale: Scale that the network can do; the file upscales by it alone.
        size: (H, W) of one LR image, the only one that the file will take; default: any number
            of images of any size.
        notes: Kept in the file: ONNX's metadata, or ``notes.json`` in a PyTorch program.

    Raises:
        UserError: the ending is another, what ONNX needs is not installed, or the file does not
            give the network's images.
    """
    if path.suffix not in _FORMATS:
        raise UserError(f"{path} has to end in {' or '.join(_FORMATS)}.")
    if path.suffix == ".onnx":
        _check_installed()
    whole = _AtScale(network, scale).eval()
    free = _FREE if size is None else {}
    traced = torch.zeros(_TRACED if size is None else (1, 3, *size))
    check_place(path)
    # Beside its place, so that it gets there whole or not at all.
    with written_whole(path) as made:
        write = _write_onnx if path.suffix == ".onnx" else _write_program
        try:
            with _quiet():
                # Not by name: conditions on a named side are refused, and real scales have some.
                sides = dict.fromkeys(free, torch.export.Dim.DYNAMIC)
                program = torch.export.export(whole, (traced,), dynamic_shapes={"lr": sides})
                run = write(program, free, made, notes or {})
        except RuntimeError as error:
            reason = (str(error).strip().splitlines() or ["no reason given"])[0]
            raise UserError(
                f"{type(network).__name__} cannot be exported by torch {torch.__version__}: "
                f"{reason}"
            ) from error
        images = _checked(scale) if size is None else [(1, *size)]
        difference = _largest_difference(whole, run, images, path)
        if not difference <= _TOLERANCE:
            raise UserError(
                f"{path} was not written: it would differ from the network by {difference:.2g} of "
                "1; please report this with the versions of torch and onnxruntime."
            )
    by = f"{scale:g}"
    inputs: tuple[int | str, ...] = ("batch", 3, "height", "width")
    outputs: tuple[int | str, ...] = ("batch", 3, f"{by} * height", f"{by} * width")
    if size is not None:
        inputs = (1, 3, *size)
        with torch.inference_mode():
            outputs = tuple(whole(traced).shape)
    return Exported(path, inputs, outputs, difference)


def facts(
    network: SRNetwork, scale: float, weights: str, record: WeightRecord | None
) -> dict[str, str]:
    """What an exported file says of itself.

    Args:
        network: Network that is exported.
        scale: Scale of the file.
        weights: How they were named.
        record: Theirs, if they are of the zoo.
    """
    field = network.receptive_field
    said = {
        "made_by": f"sr-lightning {__version__}",
        "network": type(network).__name__,
        "scale": f"{scale:g}",
        # Of a file of the user's, not where it lies.
        "weights": weights if record is not None else Path(weights).name,
        "images": "RGB float32 in [0, 1], NCHW; clamp the output",
        # What a program that cuts images into tiles has to know.
        "margin_of_exact_tiles": "none: it sees the whole image"
        if field is None
        else f"{field // 2}",
    }
    if record is not None:
        said |= {
            "sha256": record.sha256,
            "licence": record.licence,
            "training_data": record.training_data,
            "training_data_licence": record.data_licence,
        }
        cell = record.measured.get(PROTOCOL, {}).get(f"Set5_x{scale:g}")
        if cell is not None:
            said["Set5"] = f"{cell['psnr']:.2f} dB / {cell['ssim']:.4f} ({PROTOCOL})"
    return said


# Formats -----------------------------------------------------------------------------------------

_Run = Callable[[Tensor], Tensor]


def _write_onnx(
    program: torch.export.ExportedProgram, free: dict[int, str], path: Path, notes: dict[str, str]
) -> _Run:
    import onnxruntime

    converted = torch.onnx.export(
        program,
        dynamo=True,
        dynamic_shapes={"lr": free},
        input_names=["lr"],
        output_names=["sr"],
        verbose=False,
    )
    assert converted is not None
    converted.model.metadata_props.update(notes)
    converted.model.producer_name = "sr-lightning"
    converted.model.producer_version = __version__
    converted.save(path)
    options = onnxruntime.SessionOptions()
    # Its warnings are about graphs, which users cannot change.
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda lr: torch.from_numpy(session.run(["sr"], {"lr": lr.numpy()})[0])


def _write_program(
    program: torch.export.ExportedProgram, free: dict[int, str], path: Path, notes: dict[str, str]
) -> _Run:
    # By way of memory: its writer of files ends the whole process where one cannot be written.
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={"notes.json": json.dumps(notes, indent=1)})
    path.write_bytes(content.getbuffer())
    loaded: _Run = torch.export.load(path).module()
    return loaded


def _check_installed() -> None:
    missing = [n for n in ("onnx", "onnxscript", "onnxruntime") if not importlib.util.find_spec(n)]
    if missing:
        raise UserError(
            f"ONNX files need {' and '.join(missing)}: pip install sr-lightning[export]. "
            "A file that ends in .pt2 needs nothing more."
        )


def _checked(scale: float) -> list[tuple[int, int, int]]:
    """Batches and sizes to check: odd, even, wide, and those whose rounding is a near thing."""
    sizes = [(1, 24, 24), (3, 21, 50)]
    # 2.3 x 25 is 57.5 or a little less, by the precision that an engine has.
    ties = [n for n in range(20, 60) if abs(scale * n % 1 - 0.5) < 1e-6]
    return sizes + [(1, n, 20) for n in ties[:2]]


@torch.inference_mode()
def _largest_difference(
    network: nn.Module, run: _Run, images: Sequence[tuple[int, int, int]], path: Path
) -> float:
    """How far a file's images are from the network's."""
    differences = []
    generator = torch.Generator().manual_seed(0)
    for count, *size in images:
        lr = torch.rand(count, 3, *size, generator=generator)
        expected, given = network(lr), run(lr)
        if expected.shape != given.shape:
            height, width = given.shape[2:]
            raise UserError(
                f"{path} was not written: of an image of {size[0]} x {size[1]} it would make "
                f"{height} x {width}, the network {expected.shape[2]} x {expected.shape[3]}; "
                "choose one size with --size H W, or a file that ends in .pt2."
            )
        differences.append((expected - given).abs().max())
    # Not Python's: what is no number has to stay one.
    return float(torch.stack(differences).max())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch and onnxscript say about their own insides while they trace."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    loggers.append(logging.getLogger("onnx_ir"))
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


# The command -------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        argv: Options; default: the process's own.

    Raises:
        UserError: the weights cannot be used, or the file cannot be made.
    """
    options = _parser().parse_args(argv)
    network = network_for(options.weights, options.scale, torch.device("cpu"))
    network = network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    scale = usual_scale(network) if options.scale is None else options.scale
    if options.size is not None and min(options.size) < 1:
        raise UserError("--size needs a height and a width of at least 1.")
    record = find_weights(options.weights)
    console = Console(markup=False)
    with console.status(f"Exporting {type(network).__name__} x{scale:g}"):
        made = export(
            network,
            options.out or Path(f"{_stem(options.weights, network, scale)}.onnx"),
            scale,
            size=None if options.size is None else tuple(options.size),
            notes=facts(network, scale, options.weights, record),
        )
    megabytes = made.path.stat().st_size / 2**20
    checked = "onnxruntime" if made.path.suffix == ".onnx" else "torch.export.load"
    for line in (
        f"{type(network).__name__} x{scale:g} ({options.weights}) -> {made.path}  "
        f"({megabytes:.1f} MiB)",
        f"in:  lr, {_shape(made.inputs)}, RGB float32 in [0, 1]",
        f"out: sr, {_shape(made.outputs)}, not clamped",
        f"Checked with {checked}: at most {made.largest_difference:.1g} of 1 from the network.",
    ):
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _stem(weights: str, network: SRNetwork, scale: float) -> str:
    """A name that tells the scale, which names of the zoo mostly do themselves."""
    stem = weights if find_weights(weights) is not None else Path(weights).stem
    return (
        stem if len(network.scales) == 1 and not network.arbitrary_scale else f"{stem}_x{scale:g}"
    )


def _shape(sides: Sequence[int | str]) -> str:
    return f"({', '.join(str(side) for side in sides)})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sr-lightning export",
        description="Write a network with its weights as ONNX (.onnx) or as a PyTorch program "
        "(.pt2) that runs without this package, and check that it gives the same images.",
    )
    parser.add_argument(
        "weights", help="zoo name, weight file, checkpoint or folder of a run; what to export"
    )
    parser.add_argument(
        "--scale",
        type=float,
        help="default: 4, or what the weights upscale by; any real scale "
        "for a network of any scale",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="ending in .onnx or .pt2; default: NAME.onnx here"
    )
    parser.add_argument(
        "--size",
        nargs=2,
        type=int,
        metavar=("H", "W"),
        help="take one image of this LR size only, as some engines want; default: any",
    )
    return parser
