"""What computes a network's images: PyTorch, ONNX Runtime or OpenVINO, whichever is fastest here.

A network is translated to ONNX once, and kept in the user's cache folder. What an engine makes of
it is compared with the network before it is used, each time: a damaged file is made again, and a
network that an engine does not run as PyTorch does is left to PyTorch.
"""

from __future__ import annotations

import copy
import ctypes
import hashlib
import io
import logging
import math
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack, redirect_stdout, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sr_lightning import __version__
from sr_lightning.data.store import cache_root
from sr_lightning.errors import UserError
from sr_lightning.files import write_whole
from sr_lightning.nn.network import SRNetwork, YNetwork, upscale_y
from sr_lightning.nn.precision import set_layout

__all__ = ["ENGINES", "EngineNetwork", "with_engine"]

_log = logging.getLogger(__name__)
_TITLES = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
ENGINES = ("auto", *_TITLES)
"""Names of the engines; "auto" is the fastest for a network on this machine."""
# LR pixels from which the start of an engine pays that is known to be the fastest, 0.3 s.
_FEW = 2**16
# Seconds that PyTorch has to work for a trial of the engines to pay, which takes up to ten.
_LONG = 30
# How much faster than PyTorch an engine has to be: it takes 400 MiB more, and tiles are larger than
# what is tried, by which CIRN loses all of a tenth.
_GAIN = 1.2
# A tenth of a level of 8 bits; 16 bits are 50 dB beside float32.
_TOLERANCE, _FAST_TOLERANCE = 0.1 / 255, 0.05
# Bytes that OpenVINO takes for each of PyTorch's, of networks that see the whole image. Measured:
# CIRN 2.5, HFDN 1.7; for others 1.0. Its tiles of these are smaller, and more of them is margin:
# "auto" does not try it for them.
_OPENVINO_TAKES = 2.2
_PROBE = 64
_KEPT = 40
_OPSET = 18

_Run = Callable[[Tensor], Tensor]
_Key = TypeVar("_Key")


class _UnfitError(Exception):
    """An engine does not run a network as PyTorch does."""


class _UntranslatedError(_UnfitError):
    """No engine does, for there is no ONNX of it."""


class EngineNetwork(SRNetwork):
    """A network whose images an engine computes; what it is made for, it says as before.

    Args:
        network: In evaluation mode.
        start: What upscales one image (1, 3, H, W) by a scale.
        memory: Bytes that it takes for each that the network does.
    """

    def __init__(
        self, network: SRNetwork, start: Callable[[float], _Run], memory: float = 1.0
    ) -> None:
        super().__init__()
        self.network = network
        self.memory = memory
        self.scales = network.scales
        self.arbitrary_scale = network.arbitrary_scale
        self._start = start
        self._runs: dict[float, _Run] = {}

    @property
    def receptive_field(self) -> int | None:
        """The network's."""
        return self.network.receptive_field

    def upscale(self, lr: Tensor, scale: float) -> Tensor:
        """Upscale images; see :meth:`SRNetwork.upscale`."""
        self.resolved(scale)
        if scale not in self._runs:
            self._runs[scale] = self._start(scale)
        return torch.cat([self._runs[scale](image) for image in torch.split(lr, 1)])


def with_engine(
    network: SRNetwork,
    scale: float,
    engine: str = "auto",
    *,
    fast: bool = False,
    pixels: float = math.inf,
) -> tuple[SRNetwork, str]:
    """A network as an engine runs it; PyTorch does where the engine cannot.

    Args:
        network: In evaluation mode, where it is to run.
        scale: One that it can do, at which engines are tried.
        engine: One of :data:`ENGINES`; "auto" needs no engine to be installed.
        fast: Whether 16-bit floats may be used, where they are faster: about 55 dB beside float32.
        pixels: LR pixels to be upscaled; for few, "auto" starts no engine.

    Returns:
        What upscales as the network does, and the engine in words.

    Raises:
        UserError: there is no such engine, it is not installed, or it does not run on that device.
    """
    if engine not in ENGINES:
        raise UserError(f"There is no engine '{engine}'; choose from {', '.join(ENGINES)}.")
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    here = device.type == "cpu" and network.dtype == torch.float32
    versions = _versions() if here else {}
    if engine not in {"auto", "torch", *versions}:
        if here:
            raise UserError(
                f"{_TITLES[engine]} is not installed: pip install 'sr-lightning[engines]'."
            )
        raise UserError(
            f"{_TITLES[engine]} runs networks of float32 on the CPU; give --device cpu, or another "
            "--engine."
        )
    why = ""
    if engine == "auto":
        engine = _fastest(network, scale, fast, pixels, versions)
    elif engine != "torch":
        try:
            _started(network, scale, engine, fast)
        except _UnfitError as error:
            engine, why = "torch", f", for {error}"
    if engine == "torch":
        number = _fastest_type(network, scale) if fast else None
        if number is None:
            return network, f"PyTorch{why}"
        said = f"PyTorch in {str(number).removeprefix('torch.')}{why}"
        return _by_engine(network, lambda scale: _by_torch(network, scale, number)), said

    def start(scale: float) -> _Run:
        try:
            return _started(network, scale, engine, fast)
        except _UnfitError as error:
            _log.warning("PyTorch upscales by x%g, for %s.", scale, error)
            return lambda lr: network.upscale(lr, scale)

    greedy = engine == "openvino" and network.receptive_field is None
    return _by_engine(network, start, _OPENVINO_TAKES if greedy else 1.0), _TITLES[engine]


def _by_engine(
    network: SRNetwork, start: Callable[[float], _Run], memory: float = 1.0
) -> EngineNetwork:
    # Messages about a network name its class.
    kind: type[EngineNetwork] = type(type(network).__name__, (EngineNetwork,), {})
    return kind(network, start, memory)


def _versions() -> dict[str, str]:
    """The engines that are installed."""
    found = {}
    for name in ("onnxruntime", "openvino"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _fastest(
    network: SRNetwork, scale: float, fast: bool, pixels: float, versions: Mapping[str, str]
) -> str:
    """The fastest engine by a measurement, which is made once for each network."""
    local = network.receptive_field is not None
    names = [name for name in versions if local or name != "openvino"]
    if not names or pixels < _FEW:
        return "torch"
    note = _cache(network, scale, f"{fast} {versions} {torch.get_num_threads()}", ".engine")
    with suppress(OSError, ValueError):
        if (known := note.read_text()) in {"torch", *names}:
            return known
    number = _fastest_type(network, scale) if fast else None
    runs: dict[str, _Run] = {"torch": _by_torch(network, scale, number)}
    alone = _times(runs, 2 * _PROBE, turns=2)["torch"]
    if alone * pixels / (2 * _PROBE) ** 2 < _LONG:
        return "torch"
    for name in names:
        try:
            runs[name] = _started(network, scale, name, fast)
        except _UntranslatedError:
            break
        except _UnfitError:
            continue
    times = _times(runs, 2 * _PROBE) if len(runs) > 1 else {"torch": 0.0}
    best = min(times, key=lambda name: times[name])
    if times["torch"] < _GAIN * times[best]:
        best = "torch"
    with suppress(UserError):
        write_whole(note, best)
    # What was tried holds hundreds of MB.
    runs.clear()
    for name in {*names} - {best}:
        _started_runs.pop(_started_key(network, scale, name, fast), None)
    with suppress(AttributeError, OSError, TypeError):
        # The C library of Linux keeps 100 MB of it, in pieces, unless it is asked.
        ctypes.CDLL(None).malloc_trim(0)
    return best


def _fastest_type(network: SRNetwork, scale: float) -> torch.dtype | None:
    """The 16-bit type in which PyTorch runs a network faster than in float32, or None."""
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    types = [torch.bfloat16] if device.type == "cpu" else [torch.float16, torch.bfloat16]
    runs: dict[torch.dtype | None, _Run] = {None: _by_torch(network, scale, None)}
    image = _image((_PROBE // 2, _PROBE // 2), 3).to(device)
    whole = runs[None](image)
    for number in types:
        run = _by_torch(network, scale, number)
        # Also where numbers are too large for float16.
        if _differ(run(image), whole) <= _FAST_TOLERANCE:
            runs[number] = run
    times = _times(runs, _PROBE // 2, device)
    return min(times, key=lambda number: times[number])


def _times(
    runs: Mapping[_Key, _Run], side: int, device: torch.device | str = "cpu", turns: int = 4
) -> dict[_Key, float]:
    """Shortest time of each, in turns, of which the first warms up."""
    image = _image((side, side), 3).to(device)
    times = dict.fromkeys(runs, math.inf)
    for turn in range(turns):
        for key, run in runs.items():
            begin = time.perf_counter()
            # A number on the CPU is there when the GPU is done.
            float(run(image).sum())
            if turn:
                times[key] = min(times[key], time.perf_counter() - begin)
    return times


# ---- the engines --------------------------------------------------------------------------------


def _by_torch(network: SRNetwork, scale: float, number: torch.dtype | None) -> _Run:
    """PyTorch in float32, or what autocast makes of a 16-bit type."""

    @torch.inference_mode()
    def run(lr: Tensor) -> Tensor:
        enabled = number is not None
        with torch.autocast(lr.device.type, number or torch.bfloat16, enabled=enabled):
            return network.upscale(lr, scale).float()

    return run


def _onnxruntime(model: bytes, fast: bool) -> _Run:
    """ONNX Runtime in float32; it has nothing faster on CPUs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Its warnings are about graphs, which users cannot change.
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    # Tiles are of several sizes: what it plans for each of them would add up.
    options.enable_mem_pattern = False
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda image: torch.from_numpy(session.run(["sr"], {"lr": image.numpy()})[0])


def _openvino(model: bytes, fast: bool) -> _Run:
    """OpenVINO in float32, or in bfloat16 where the CPU computes in it."""
    import openvino

    core = openvino.Core()
    fast = fast and "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        # Not said, it is 16 bits wherever the CPU has them.
        "INFERENCE_PRECISION_HINT": "bf16" if fast else "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(core.read_model(model), "CPU", settings)
    # Its own buffer would hold the next tile when this one is looked at.
    return lambda image: torch.from_numpy(
        compiled({"lr": image.numpy()}, share_outputs=False)["sr"]
    )


_LOADERS: dict[str, Callable[[bytes, bool], _Run]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}
# Of the last networks, so that images one by one start no engine each.
_started_runs: dict[tuple[str, Path, int], _Run] = {}


def _started_key(
    network: SRNetwork, scale: float, engine: str, fast: bool
) -> tuple[str, Path, int]:
    """Engine, file of the translated network, threads."""
    return engine, _cache(network, scale, str(fast), ".onnx"), torch.get_num_threads()


def _started(network: SRNetwork, scale: float, engine: str, fast: bool) -> _Run:
    """What upscales one image by an engine.

    Raises:
        _UnfitError: it does not do so as the network does.
    """
    key = _started_key(network, scale, engine, fast)
    if key not in _started_runs:
        while len(_started_runs) >= 4:
            del _started_runs[next(iter(_started_runs))]
        _started_runs[key] = _checked(network, scale, engine, fast, key[1])
    core = _started_runs[key]

    def run(image: Tensor) -> Tensor:
        return core(image.detach().contiguous())

    if isinstance(network, YNetwork):
        return lambda lr: upscale_y(lr, run, scale)
    return run


@torch.inference_mode(False)
@torch.no_grad()
def _checked(network: SRNetwork, scale: float, engine: str, fast: bool, path: Path) -> _Run:
    """An engine's run of a translated network; a file that will not do is made again, once."""
    # Channels last, layers compute in other ways, which engines are slow at.
    twin = copy.deepcopy(network)
    set_layout(twin, channels_last=False)
    part = _Part(twin, scale).eval()
    for there in (True, False):
        if there and not path.is_file():
            continue
        try:
            model = path.read_bytes() if there else _translated(part, path)
            run = _LOADERS[engine](model, fast)
            # Of none of the sizes that it was translated at.
            images = [_image(size, part.channels) for size in ((24, 24), (21, 50))]
            differ = max(_differ(run(image), part(image)) for image in images)
        except _UntranslatedError:
            raise
        except Exception as error:
            # Engines raise what they like, of their own types too.
            reason = _first_line(error)
        else:
            if differ <= (_FAST_TOLERANCE if fast else _TOLERANCE):
                return run
            reason = "its images would differ"
    raise _UnfitError(f"{_TITLES[engine]} does not run {type(network).__name__} ({reason})")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:90]


class _Part(nn.Module):
    """What of a network an engine runs: all of it, or of a luminance network the luminance."""

    def __init__(self, network: SRNetwork, scale: float) -> None:
        super().__init__()
        self.network = network
        self.scale = int(scale) if float(scale).is_integer() else scale
        self.channels = 1 if isinstance(network, YNetwork) else 3

    def forward(self, image: Tensor) -> Tensor:
        if isinstance(self.network, YNetwork):
            return self.network.predict(image, self.scale)[-1]
        return self.network.upscale(image, self.scale)


def _translated(part: _Part, path: Path) -> bytes:
    """A network as ONNX for one image of any size; it is kept for later where it can be.

    Not by ``torch.export``, as files of `sr-lightning export` are: that imports PyTorch's compiler
    and takes 8 to 30 s where this takes 0.4 to 1 s.

    Raises:
        _UntranslatedError: PyTorch does not know how.
    """
    file = io.BytesIO()
    image = _image((37, 29), part.channels)
    # What is computed once and kept shall be a number in the graph, and no part of it.
    part(image)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), ExitStack() as stack:
            warnings.simplefilter("ignore")
            # Where it fails, it writes its graph to the standard output, as a photograph may be.
            stack.callback(setattr, torch._C, "_jit_onnx_log", torch._C._jit_onnx_log)
            torch._C._jit_onnx_log = lambda *_: None
            known: Any = torch.onnx
            known.register_custom_op_symbolic("aten::diag", _diagonal, _OPSET)
            stack.callback(known.unregister_custom_op_symbolic, "aten::diag", _OPSET)
            torch.onnx.export(
                part,
                (image,),
                file,  # type: ignore[arg-type]
                dynamo=False,
                input_names=["lr"],
                output_names=["sr"],
                dynamic_axes={"lr": {2: "height", 3: "width"}},
                opset_version=_OPSET,
            )
    except Exception as error:
        name = type(part.network).__name__
        raise _UntranslatedError(f"{name} has no ONNX ({_first_line(error)})") from error
    with suppress(UserError, OSError):
        write_whole(path, file.getvalue())
        files = sorted(path.parent.glob("*.onnx"), key=lambda file: file.stat().st_mtime)
        for old in files[:-_KEPT]:
            old.unlink()
    return file.getvalue()


def _diagonal(graph: Any, values: Any, diagonal: Any) -> Any:
    """What ``torch.diag`` of a vector is in ONNX, which has no such operator."""
    length = graph.op("Shape", values)
    zeros = graph.op("ConstantOfShape", graph.op("Concat", length, length, axis_i=0))
    on_it = graph.op("Cast", graph.op("EyeLike", zeros), to_i=torch.onnx.TensorProtoDataType.BOOL)
    column = graph.op("Unsqueeze", values, graph.op("Constant", value_t=torch.tensor([1])))
    return graph.op("Where", on_it, column, zeros)


def _cache(network: SRNetwork, scale: float, more: str, suffix: str) -> Path:
    """Where something is kept that is made of a network with its weights, here."""
    capability = torch.backends.cpu.get_cpu_capability()
    what = (__version__, torch.__version__, capability, type(network), scale, more)
    digest = hashlib.sha256(f"{what} {getattr(network, 'config', '')}".encode())
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return cache_root() / "engines" / f"{digest.hexdigest()[:32]}{suffix}"


def _image(size: tuple[int, int], channels: int) -> Tensor:
    # Without touching anyone's random numbers.
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, channels, *size, generator=generator)


def _differ(one: Tensor, other: Tensor) -> float:
    """Largest difference; infinite where the sizes differ or there is no number."""
    if one.shape != other.shape:
        return math.inf
    difference = float((one.float() - other.float()).abs().max())
    return difference if math.isfinite(difference) else math.inf
