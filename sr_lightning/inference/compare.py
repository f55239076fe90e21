"""``sr-lightning compare photo.png``: every network of a scale on the same HR photograph.

The photograph is downscaled as the protocol says, upscaled again by bicubic and by each network,
and measured; a square of it is shown by all of them, pixel for pixel. For every photograph are
left: a labelled picture, the squares as files, and a JSON with the numbers that ``sr-lightning
tables`` shows them with.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from sr_lightning.cubic import upscaled_size
from sr_lightning.data.batch import Batch
from sr_lightning.data.catalog import known_set, locate_set
from sr_lightning.data.degradation import degrade
from sr_lightning.data.images import read_picture, to_tensor
from sr_lightning.data.resize import lr_size
from sr_lightning.data.sample import find_photographs
from sr_lightning.errors import UserError
from sr_lightning.files import check_place, read_record, write_json, written_whole
from sr_lightning.inference.evaluate import Evaluator, Measured
from sr_lightning.inference.outputs import files_of
from sr_lightning.inference.pictures import busiest_square, save_crops, sheet, upscaled_lr
from sr_lightning.inference.upscale import device_of, network_for
from sr_lightning.metrics.protocol import PROTOCOLS, Protocol
from sr_lightning.metrics.quality import METRICS, SSIM_WINDOW, numbers_text, stored
from sr_lightning.nn.network import SRNetwork
from sr_lightning.weights.zoo import choose_weights, find_weights, records

__all__ = ["ComparedMethod", "ComparedPhotograph", "Photograph", "compare", "main", "photographs"]

# Small ones with structure, one of each set that the zoo is measured on.
_USUAL = (("Set5", "butterfly"), ("Set14", "zebra"), ("B100", "223061"))
# No network of the zoo saw these.
_SAMPLES = ("sample-test", "sample-val")
_LARGEST = 1024
_SIDE = 128
_LONGEST_LABEL = 24


@dataclass(frozen=True)
class ComparedMethod:
    """One method's answer.

    Attributes:
        label: Its name.
        file: PNG of its square, beside the JSON.
        numbers: Numbers by metric, of the whole photograph; none for the LR and HR images.
        sha256: SHA-256 of the zoo's weight file, or "" for what is not of the zoo.
    """

    label: str
    file: str
    numbers: dict[str, float | None] = field(default_factory=dict)
    sha256: str = ""


@dataclass(frozen=True)
class ComparedPhotograph:
    """A photograph by several methods.

    Attributes:
        title: Title of the photograph.
        scale: Scale that it was upscaled by.
        protocol: Protocol of the numbers.
        size: (H, W) of what was measured, in HR pixels.
        part: Whether that is only a part of the photograph.
        square: Top, left and side of what is shown, in HR pixels of what was measured.
        methods: LR first, the original last.
    """

    title: str
    scale: float
    protocol: str
    size: tuple[int, int]
    part: bool
    square: tuple[int, int, int]
    methods: tuple[ComparedMethod, ...]

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> ComparedPhotograph:
        """Read it from JSON.

        Raises:
            UserError: the file is damaged or of another version.
        """
        try:
            return read_record(path, cls, "comparison")
        except UserError as error:
            raise UserError(f"{error} Remove it, or run 'sr-lightning compare' again.") from error


@dataclass(frozen=True)
class Photograph:
    """An HR photograph to compare on.

    Attributes:
        title: Set and name, or the file's name.
        path: Path of the file.
    """

    title: str
    path: Path


def photographs(named: Sequence[str] = (), root: str | Path | None = None) -> list[Photograph]:
    """What to compare on.

    Args:
        named: Image files and folders; none: one image each of Set5, Set14 and B100, or the
            bundled photographs where none of these sets is.
        root: The data root.

    Raises:
        UserError: a folder holds no image, or there are neither sets nor bundled photographs.
    """
    if named:
        return [Photograph(path.name, path) for path, _ in files_of(named)]
    found = []
    for name, stem in _USUAL:
        facts = known_set(name)
        images = locate_set(facts, root) if facts is not None else None
        for path in images.files if images is not None else ():
            if path.stem == stem:
                found.append(Photograph(f"{name} {stem}", path))
    if not found:
        for name in _SAMPLES:
            images = find_photographs(name)
            paths = images.files if images is not None else ()
            found += [Photograph(path.stem, path) for path in paths]
    return found


@torch.inference_mode()
def compare(
    photograph: Photograph,
    networks: dict[str, SRNetwork],
    scale: float,
    protocol: Protocol,
    out: Path,
    *,
    region: tuple[int, int, int] | None = None,
    device: torch.device | None = None,
) -> Path:
    """Upscale a photograph by bicubic and by every network, measure, and draw.

    Args:
        photograph: HR image; of one with more than 1024 pixels on a side, only the part with most
            detail (or around `region`) is taken.
        networks: Networks by label; a label that is a name of the zoo is taken for its weights.
        scale: Scale that all of them can do.
        protocol: Makes the LR image and measures.
        out: Folder that gets ``<name>_x4.png``, ``<name>_x4.json`` and ``<name>_x4/*.png``.
        region: Left, top and side of the square to show, in HR pixels, moved to whole LR pixels;
            default: the 128 pixels with most detail.
        device: Device of the networks.

    Returns:
        The picture.

    Raises:
        UserError: the image cannot be read, is too small, or does not hold the region.
    """
    picture = read_picture(photograph.path)
    hr = to_tensor(picture.rgb)
    whole = (hr.shape[1], hr.shape[2])
    if region is not None:
        _check_region(region, whole, photograph)
    top, left, hr = _part(hr, scale, region)
    if min(hr.shape[1:]) < 2 * round(scale) + SSIM_WINDOW:
        raise UserError(
            f"{photograph.path} is {whole[1]} x {whole[0]}, too small to be measured at "
            f"x{scale:g} under {protocol.name}."
        )
    batch: Batch = {
        "lr": degrade(hr[None], scale).to(device),
        "hr": hr[None].to(device),
        "scale": scale,
        "name": [photograph.title],
        "grey": picture.grey,
    }
    measured: dict[str, Measured] = {}
    for label, network in {"bicubic": None, **networks}.items():
        with torch.inference_mode():
            (measured[label],) = Evaluator(network, [protocol]).measure(batch)
    answers = {label: one.image.cpu() for label, one in measured.items()}
    lr = degrade(hr[None], scale, protocol.lr, grey=picture.grey)
    name = f"{photograph.path.stem}_x{scale:g}"
    corner = None if region is None else (region[1] - top, region[0] - left)
    files = {label: _file_name(label) for label in answers}
    square = save_crops(
        out / name,
        lr[0],
        {**{files[label]: image[0] for label, image in answers.items()}, "hr": hr},
        scale,
        side=_SIDE if region is None else region[2],
        corner=corner,
    )
    methods = [ComparedMethod("LR", f"{name}/lr.png")]
    for label, one in measured.items():
        record = find_weights(label)
        methods.append(
            ComparedMethod(
                label=label,
                file=f"{name}/{files[label]}.png",
                numbers=stored(one.numbers),
                sha256="" if record is None else record.sha256,
            )
        )
    methods.append(ComparedMethod("HR (original)", f"{name}/hr.png"))
    size = (hr.shape[1], hr.shape[2])
    is_part = max(size) + scale < max(whole)
    made = ComparedPhotograph(
        photograph.title, scale, protocol.name, size, is_part, square, tuple(methods)
    )
    made.write(out / f"{name}.json")
    return _draw(made, lr[0], answers, hr, out / f"{name}.png")


def _check_region(
    region: tuple[int, int, int], size: tuple[int, int], photograph: Photograph
) -> None:
    x, y, side = region
    if min(x, y) < 0 or side < 1 or x + side > size[1] or y + side > size[0]:
        raise UserError(
            f"The region {x} {y} {side} does not lie in {photograph.path}, which is "
            f"{size[1]} x {size[0]}; give the left, the top and the side of a square in it."
        )


def _part(hr: Tensor, scale: float, region: tuple[int, int, int] | None) -> tuple[int, int, Tensor]:
    """Top, left and pixels of what is measured, cropped for the scale."""
    height, width = hr.shape[1:]
    top = left = 0
    if max(height, width) > _LARGEST:
        side = min(height, width, _LARGEST)
        if region is None:
            top, left = busiest_square(hr, side)
        else:
            x, y, shown = region
            side = max(side, shown)
            left = min(max(0, x + shown // 2 - side // 2), width - side)
            top = min(max(0, y + shown // 2 - side // 2), height - side)
        height = width = side
    height, width = upscaled_size(lr_size((height, width), scale), scale)
    return top, left, hr[:, top : top + height, left : left + width]


def _file_name(label: str) -> str:
    return re.sub(r"[^\w.-]+", "-", label)


def _draw(
    made: ComparedPhotograph, lr: Tensor, answers: dict[str, Tensor], hr: Tensor, path: Path
) -> Path:
    low, *measured, original = made.methods
    panels = [(f"{low.label} (x{made.scale:g})", upscaled_lr(lr, made.size))]
    panels += [
        (f"{method.label}  {numbers_text(method.numbers)}", answers[method.label][0])
        for method in measured
    ]
    panels.append((original.label, hr))
    title = f"{made.title}, x{made.scale:g}, {made.protocol}"
    with written_whole(path) as part:
        sheet(title, panels, hr, made.square).save(part)
    return path


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        argv: Options; default: the process's own.

    Raises:
        UserError: weights or an image cannot be used. With several images the others are still
            compared.
    """
    options = _parser().parse_args(argv)
    check_place(options.out, folder=True)
    device = device_of(options.device)
    pictures = photographs(options.images, options.data_root)
    networks = _networks(options.weights, options.scale, device)
    protocol = PROTOCOLS[options.protocol]
    console = Console(markup=False)
    failed: list[str] = []
    taken: set[str] = set()
    for photograph in pictures:
        if photograph.path.stem in taken:
            failed.append(
                f"{photograph.path} was left out: an image of that name was compared already; "
                "name another folder with --out."
            )
            continue
        taken.add(photograph.path.stem)
        try:
            drawn = compare(
                photograph,
                networks,
                options.scale,
                protocol,
                options.out,
                region=None if options.region is None else tuple(options.region),
                device=device,
            )
        except UserError as error:
            failed.append(str(error))
            continue
        console.print(_table(ComparedPhotograph.read(drawn.with_suffix(".json"))))
        console.print(f"{drawn}\n", highlight=False, soft_wrap=True)
    if failed:
        raise UserError(" ".join(failed))


def _networks(
    named: Sequence[str] | None, scale: float, device: torch.device
) -> dict[str, SRNetwork]:
    names = named or [
        record.name
        for record in records()
        if scale in record.scales or (record.arbitrary_scale and scale >= 1)
    ]
    if not names:
        # Says what there is instead.
        choose_weights(scale)
    made: dict[str, SRNetwork] = {}
    for name in names:
        label = name if find_weights(name) is not None else Path(name).stem
        if len(label) > _LONGEST_LABEL:
            label = f"{label[: _LONGEST_LABEL - 2]}.."
        copies = 1
        while (label if copies == 1 else f"{label} {copies}") in {"bicubic", "lr", "hr", *made}:
            copies += 1
        label = label if copies == 1 else f"{label} {copies}"
        made[label] = network_for(name, scale, device)
    return made


def _table(made: ComparedPhotograph) -> Table:
    table = Table(title=f"{made.title} x{made.scale:g}, {made.protocol}", title_justify="left")
    table.add_column("method")
    metrics = [METRICS[name] for name in made.methods[1].numbers]
    for metric in metrics:
        table.add_column(metric.heading, justify="right")
    for method in made.methods:
        if method.numbers:
            table.add_row(method.label, *(m.text(method.numbers[m.name]) for m in metrics))
    if made.part:
        table.caption = f"a part of {made.size[1]} x {made.size[0]}"
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sr-lightning compare",
        description="Downscale HR photographs, upscale them by bicubic and by every network of the "
        "zoo, measure, and set a square of each beside one another. 'sr-lightning report' shows "
        "what lies in runs/comparison.",
    )
    parser.add_argument(
        "images",
        nargs="*",
        help="HR image files or folders; default: one image each of Set5, Set14 and B100, or "
        "bundled photographs where these sets are not",
    )
    parser.add_argument("--scale", type=float, default=4, help="default: 4")
    parser.add_argument(
        "--weights",
        nargs="+",
        metavar="NAME",
        help="zoo names, weight files, checkpoints or folders of runs; default: all of the zoo "
        "at that scale",
    )
    parser.add_argument(
        "--region",
        nargs=3,
        type=int,
        metavar=("X", "Y", "SIDE"),
        help="left, top and side of the square to show, in pixels; default: the busiest 128",
    )
    parser.add_argument(
        "--protocol", choices=[*PROTOCOLS], default="edsr2017", help="default: edsr2017"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/comparison"), help="folder")
    parser.add_argument("--data-root", help="where image sets lie; default: $SR_DATA or ./data")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps; default: auto")
    return parser
