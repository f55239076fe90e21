"""Authors' weight files: every format, damage, foreign code, and the numbers they are known for."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sr_lightning.baselines.carn import CARN
from sr_lightning.baselines.dncnn import DnCNN
from sr_lightning.baselines.idn import IDN
from sr_lightning.baselines.imdn import IMDN
from sr_lightning.baselines.lapsrn import LapSRN, MSLapSRN
from sr_lightning.baselines.tscn import TSCN
from sr_lightning.baselines.vdsr import VDSR
from sr_lightning.cli import main
from sr_lightning.errors import UserError
from sr_lightning.inference.verify import Comparison, unknown_files, verify, weights_folder
from sr_lightning.papers.lesrcnn import LESRCNN
from sr_lightning.weights.authors import Printed, released_files
from sr_lightning.weights.convert import convert, network_from_release
from sr_lightning.weights.files import load_network
from sr_lightning.weights.formats import ExternalWeights, matlab
from sr_lightning.weights.state_dict_maps import RELEASES

# ---- small files as the authors' tools write them ------------------------------------------------


def theirs(network, arch):
    """Tensors of a network under the release's names, in PyTorch's layout."""
    nothing = ExternalWeights(Path("x"), "pytorch", {})
    names = RELEASES[arch].names(network, nothing)
    return {names[ours]: value for ours, value in network.state_dict().items()}


def as_matlab(value):
    """Filters as (height, width, in, out) without last dimensions of 1, biases as columns."""
    array = value.numpy()
    if array.ndim == 1:
        return array[:, None]
    array = array.transpose(2, 3, 1, 0)
    while array.ndim > 2 and array.shape[-1] == 1:
        array = array[..., 0]
    return array


def varint(value):
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def message(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def caffemodel(path, tensors, stride):
    """A NetParameter whose layers have blobs, with a field that readers must skip."""
    layers = {}
    for name, value in tensors.items():
        layers.setdefault(name.rpartition(".")[0], []).append(value)
    content = message(1, b"a net") + varint(8 << 3) + varint(1)
    for name, blobs in layers.items():
        layer = message(1, name.encode()) + message(2, b"Convolution")
        for blob in blobs:
            shape = message(7, message(1, b"".join(varint(n) for n in blob.shape)))
            layer += message(7, message(5, blob.numpy().astype("<f4").tobytes()) + shape)
        if name == "upsample":
            layer += message(106, varint(6 << 3) + varint(stride))
        content += message(100, layer)
    path.write_bytes(content)


def pytorch_file(folder, network, arch, **extra):
    path = folder / f"{arch}.pth"
    torch.save({**theirs(network, arch), **extra}, path)
    return path


def vdsr_file(folder, network, **extra):
    io = pytest.importorskip("scipy.io")
    state = network.state_dict()
    count = network.config["layers"]
    cells = {}
    for kind in ("weight", "bias"):
        cells[kind] = np.empty((count, 1), dtype=object)
        for index in range(count):
            cells[kind][index, 0] = as_matlab(state[f"layers.{index}.{kind}"])
    path = folder / "vdsr.mat"
    io.savemat(path, {"model": cells, **extra})
    return path


def dagnn_file(folder, network, arch, layers=("input",)):
    io = pytest.importorskip("scipy.io")
    tensors = theirs(network, arch)
    params = np.empty((1, len(tensors)), dtype=[("name", object), ("value", object)])
    for index, (name, value) in enumerate(tensors.items()):
        params[0, index] = (name, as_matlab(value))
    graph = np.empty((1, len(layers)), dtype=[("name", object)])
    for index, name in enumerate(layers):
        graph[0, index] = (name,)
    path = folder / f"{arch}.mat"
    io.savemat(path, {"net": {"params": params, "layers": graph}})
    return path


def dncnn_file(folder, network):
    h5py = pytest.importorskip("h5py")
    path = folder / "dncnn.mat"
    state = network.state_dict()
    ours = [name.removesuffix(".weight") for name in state if name.endswith(".weight")]
    with h5py.File(path, "w", userblock_size=512) as file:
        count = iter(range(1000))

        def put(where, value, kind):
            made = where.create_dataset(f"#refs#/{next(count)}", data=value)
            made.attrs["MATLAB_class"] = np.bytes_(kind)
            return made

        def cell(references):
            return np.array([[r.ref] for r in references], dtype=h5py.ref_dtype)

        layers = []
        for index, name in enumerate(ours):
            arrays = [as_matlab(state[f"{name}.{kind}"]).T for kind in ("weight", "bias")]
            weights = put(file, cell([put(file, a, "single") for a in arrays]), "cell")
            group = file.create_group(f"#refs#/layer{index}")
            group.attrs["MATLAB_class"] = np.bytes_("struct")
            group["weights"] = weights
            layers.append(group)
            relu = file.create_group(f"#refs#/relu{index}")
            relu.attrs["MATLAB_class"] = np.bytes_("struct")
            relu["type"] = put(file, np.array([[ord(c)] for c in "relu"], np.uint16), "char")
            layers.append(relu)
        net = file.create_group("net")
        net.attrs["MATLAB_class"] = np.bytes_("struct")
        made = net.create_dataset("layers", data=cell(layers))
        made.attrs["MATLAB_class"] = np.bytes_("cell")
    with path.open("r+b") as opened:
        opened.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(128))
    return path


def caffe_file(folder, network, arch):
    path = folder / f"{arch}.caffemodel"
    caffemodel(path, theirs(network, arch), network.scale)
    return path


CARN_M = {"channels": 8, "groups": 4, "recursive": True}
CASES = {
    "imdn": (lambda: IMDN(3, channels=16, blocks=2), pytorch_file, {"channels": 16, "blocks": 2}),
    "carn": (lambda: CARN((2, 3, 4), **CARN_M), pytorch_file, {"channels": 8}),
    "vdsr": (
        lambda: VDSR(layers=4, channels=8, clip=True),
        lambda folder, network, arch: vdsr_file(folder, network),
        {"channels": 8},
    ),
    "dncnn": (
        lambda: DnCNN(layers=4, channels=8, batch_norm=False),
        lambda folder, network, arch: dncnn_file(folder, network),
        {"channels": 8},
    ),
    "lapsrn": (lambda: LapSRN(8, depth=2, channels=8), dagnn_file, {"channels": 8}),
    "mslapsrn": (
        lambda: MSLapSRN(depth=2, recursions=3, channels=8),
        lambda folder, network, arch: dagnn_file(
            folder, network, arch, [f"x4SR_level1_R{r}_relu1" for r in (1, 2, 3)]
        ),
        {"channels": 8},
    ),
    "idn": (
        lambda: IDN(3, channels=16, blocks=1, difference=4),
        caffe_file,
        {"channels": 16, "blocks": 1, "difference": 4},
    ),
    "tscn": (
        lambda: TSCN(4, channels=24, modules=1, units=1),
        caffe_file,
        {"channels": 24, "modules": 1, "units": 1},
    ),
}


def made(arch, folder):
    """A small network with weights of its own everywhere, its foreign file, and its arguments."""
    build, write, arguments = CASES[arch]
    torch.manual_seed(1)
    network = build().eval()
    for parameter in network.parameters():
        parameter.data = 0.2 * torch.randn_like(parameter)
    return network, write(folder, network, arch), arguments


# ---- conversion ---------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", list(CASES))
def test_every_format_gives_the_network_that_was_written(arch, tmp_path):
    network, path, arguments = made(arch, tmp_path)
    record = convert(path, tmp_path / "out.safetensors", arch, **arguments)
    again = load_network(tmp_path / "out.safetensors")
    assert again.config == network.config
    assert record.scales == network.scales
    lr = torch.rand(1, 3, 6, 5)
    scale = network.scales[-1]
    with torch.no_grad():
        torch.testing.assert_close(again.upscale(lr, scale), network.upscale(lr, scale))


def test_lesrcnn_is_converted_without_its_mean_shifts(tmp_path):
    network = LESRCNN(2, channels=64, pairs=8)
    state = {"sub_mean.shifter.weight": torch.eye(3).view(3, 3, 1, 1)}
    for name, value in network.state_dict().items():
        place, _, kind = name.rpartition(".")
        parts = place.split(".")
        if parts[0] == "upsamplers":
            state[f"upsample.up.body.0.{kind}"] = value
        elif parts[0] == "pairs":
            layer = 2 * int(parts[1]) + (2 if parts[2] == "even" else 3)
            state[f"conv{layer}.0.{kind}"] = value
        elif parts[0] == "refinement":
            state[f"conv17_{int(parts[1]) + 1}.0.{kind}"] = value
        else:
            state[f"conv{1 if parts[0] == 'first' else 18}.0.{kind}"] = value
    torch.save(state, tmp_path / "l.pth")
    again = network_from_release(tmp_path / "l.pth", "lesrcnn")
    assert again.scale == 2
    for name, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value)


def test_record_tells_where_weights_come_from(tmp_path, capsys):
    _, path, _ = made("carn", tmp_path)
    out = tmp_path / "c.safetensors"
    main(
        [
            *("weights", "convert", str(path), "--arch", "carn"),
            *("--out", str(out), "--set", "channels=8"),
        ]
    )
    assert "CARN x2, x3, x4" in capsys.readouterr().out
    record = json.loads(out.with_suffix(".json").read_text())
    assert record["origin"].startswith("github.com/nmhkahn")
    assert record["source"] == "carn.pth"
    assert record["source_format"] == "pytorch"
    assert len(record["sha256"]) == len(record["source_sha256"]) == 64
    assert record["scales"] == [2, 3, 4]


def test_prefix_of_data_parallel_is_taken_away(tmp_path):
    network = IMDN(2, channels=16, blocks=1)
    state = {f"module.{k}": v for k, v in theirs(network, "imdn").items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "i.pth")
    again = network_from_release(tmp_path / "i.pth", "imdn", channels=16, blocks=1)
    torch.testing.assert_close(again.first.weight, network.first.weight)


# ---- mistakes and damage ------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ["imdn", "vdsr", "dncnn", "lapsrn", "idn"])
def test_damaged_files_are_refused_wherever_they_end(arch, tmp_path):
    _, path, arguments = made(arch, tmp_path)
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.98):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(UserError, match=path.name):
            convert(path, tmp_path / "out.safetensors", arch, **arguments)
        assert not (tmp_path / "out.safetensors").exists()


def test_a_reader_that_crashes_does_not_take_the_command_along(tmp_path, monkeypatch):
    io = pytest.importorskip("scipy.io")
    _, path, arguments = made("vdsr", tmp_path)
    monkeypatch.setattr(io, "loadmat", lambda *_, **__: os.kill(os.getpid(), signal.SIGSEGV))
    with pytest.raises(UserError, match=r"vdsr\.mat is damaged"):
        convert(path, tmp_path / "out.safetensors", "vdsr", **arguments)


def test_a_matlab_file_that_would_be_unpacked_without_bound_is_refused(tmp_path):
    io = pytest.importorskip("scipy.io")
    h5py = pytest.importorskip("h5py")
    old, new = tmp_path / "old.mat", tmp_path / "new.mat"
    io.savemat(old, {"model": np.zeros((5000, 5000), np.float32)}, do_compression=True)
    with h5py.File(new, "w", userblock_size=512) as file:
        # None of it is ever written.
        made = file.create_dataset("model", (1 << 20, 1 << 20), np.float32, chunks=(1024, 1024))
        made.attrs["MATLAB_class"] = np.bytes_("single")
    with new.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + struct.pack("<H", 0x0200) + b"IM")
    for path in (old, new):
        with pytest.raises(UserError, match=rf"{path.name} has .* would be unpacked to"):
            network_from_release(path, "vdsr")


@pytest.mark.parametrize("content", [b"", b"hello, these are no weights\n" * 40, b"\x00" * 600])
def test_files_of_no_known_format_are_refused(content, tmp_path):
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.bin"):
        network_from_release(tmp_path / "x.bin", "vdsr")


def test_missing_file_and_unknown_arch_and_ending_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"none\.pth does not exist"):
        network_from_release(tmp_path / "none.pth", "imdn")
    with pytest.raises(UserError, match="no converter for 'vgg'"):
        network_from_release(tmp_path / "none.pth", "vgg")
    with pytest.raises(UserError, match=r"must end in \.safetensors"):
        convert(tmp_path / "none.pth", tmp_path / "x.pth", "imdn")


def imdn_state():
    return theirs(IMDN(2, channels=16, blocks=1), "imdn")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("LR_conv.bias"), r"lacks the tensor 'LR_conv\.bias'"),
        (lambda s: s.update(more=torch.zeros(2)), "a tensor that IMDN has not: 'more'"),
        (
            lambda s: s.update({"LR_conv.bias": torch.zeros(5)}),
            r"'LR_conv\.bias' is \(5,\) and does not fit \(16,\)",
        ),
    ],
)
def test_misfitting_tensors_are_named_and_nothing_is_written(change, words, tmp_path):
    state = imdn_state()
    change(state)
    torch.save(state, tmp_path / "i.pth")
    with pytest.raises(UserError, match=words) as refused:
        convert(tmp_path / "i.pth", tmp_path / "o.safetensors", "imdn", channels=16, blocks=1)
    assert "i.pth" in str(refused.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["i.pth"]


def test_a_scale_that_the_file_contradicts_is_refused(tmp_path):
    torch.save(imdn_state(), tmp_path / "i.pth")
    with pytest.raises(UserError, match=r"is for scale 2, not 4"):
        network_from_release(tmp_path / "i.pth", "imdn", 4, channels=16, blocks=1)


def test_another_architectures_file_is_refused(tmp_path):
    torch.save(imdn_state(), tmp_path / "i.pth")
    for arch in ("vdsr", "dncnn", "lapsrn", "mslapsrn", "idn", "tscn", "carn", "lesrcnn"):
        with pytest.raises(UserError):
            network_from_release(tmp_path / "i.pth", arch)


class Malicious:
    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("protocol", ["torch", "pickle"])
def test_code_in_a_pickle_is_never_run(protocol, tmp_path):
    bad = Malicious()
    bad.target = tmp_path / "was_run"
    path = tmp_path / "bad.pth"
    if protocol == "torch":
        torch.save({**imdn_state(), "bad": bad}, path)
    else:
        path.write_bytes(pickle.dumps({"bad": bad}, protocol=2))
    with pytest.raises(UserError, match=r"bad\.pth is damaged"):
        network_from_release(path, "imdn", channels=16, blocks=1)
    assert not bad.target.exists()


def test_caffe_blobs_of_the_old_kind_are_read(tmp_path):
    """Before BlobShape a blob had four sides; the numbers may come one by one."""
    sides = b"".join(varint(n << 3) + varint(v) for n, v in ((1, 2), (2, 1), (3, 1), (4, 1)))
    numbers = b"".join(varint(5 << 3 | 5) + struct.pack("<f", v) for v in (1.5, -2.0))
    layer = message(1, b"conv") + message(7, sides + numbers)
    (tmp_path / "c.caffemodel").write_bytes(message(100, layer))
    from sr_lightning.weights.formats import read_external

    weight = read_external(tmp_path / "c.caffemodel").tensors["conv.weight"]
    assert weight.shape == (2, 1, 1, 1)
    assert weight.flatten().tolist() == [1.5, -2.0]


# ---- verification -------------------------------------------------------------------------------


def test_a_printed_number_stands_for_all_that_are_rounded_to_it():
    printed = Printed("37.53")
    assert printed.difference(37.5349) == 0
    assert printed.difference(37.5251) == 0
    assert printed.difference(37.55) == pytest.approx(0.015)
    assert printed.difference(37.50) == pytest.approx(-0.025)
    assert Printed("0.959").difference(0.9594) == 0


@pytest.mark.parametrize(
    ("measured", "agrees"),
    [
        ((37.5349, 0.9587), True),
        ((37.5449, 0.9587), True),
        ((37.5451, 0.9587), False),
        ((37.53, 0.95924), True),
        ((37.53, 0.95926), False),
    ],
)
def test_limits_are_a_hundredth_of_a_decibel_and_half_a_thousandth(measured, agrees):
    row = Comparison("x", 2, "Set5", "p", (Printed("37.53"), Printed("0.9587")), measured)
    assert row.agrees is agrees
    assert str(row).endswith("agrees" if agrees else "DIFFERS")


def test_every_released_file_has_numbers_a_converter_and_a_protocol():
    from sr_lightning.metrics.protocol import PROTOCOLS

    files = released_files()
    assert len({one.sha256 for one in files}) == len(files) == 20
    for one in files:
        assert one.arch in RELEASES
        assert one.protocol in PROTOCOLS
        assert one.source
        assert one.size or one.about
        assert all(url.startswith("https://") for url in one.urls)
        assert re.fullmatch("[0-9a-f]{8}|[0-9a-f]{64}", one.sha256)
        for cells in one.published.values():
            assert set(cells) == {"Set5", "Set14", "B100"}


def test_verify_names_what_it_lacks(tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match="--weights"):
        weights_folder(tmp_path / "nowhere", tmp_path)
    folder = weights_folder(None, tmp_path / "data")
    assert folder == tmp_path / "weights"
    Image.new("RGB", (24, 24)).save(tmp_path / "data" / "x.png")
    with pytest.raises(UserError, match="No numbers are known for 'vgg'"):
        list(verify(folder, tmp_path, only=["vgg"], sets=[]))
    with pytest.raises(UserError, match="no file whose printed numbers are known"):
        list(verify(folder, tmp_path, sets=[]))
    with pytest.raises(UserError, match="no file with the checksum of vdsr"):
        list(verify(folder, tmp_path, only=["vdsr"], sets=[]))
    torch.save(imdn_state(), folder / "mine.pth")
    torch.save({"a": torch.zeros(1)}, folder / "other.pth")
    with pytest.raises(UserError, match=r"other\.pth is left out: .*tensors such as 'a'"):
        list(verify(folder, tmp_path, sets=[]))


def test_files_without_printed_numbers_are_noticed(tmp_path):
    for name in ("mine.pth", "README.md"):
        (tmp_path / name).write_bytes(name.encode())
    assert [path.name for path in unknown_files(tmp_path)] == ["mine.pth"]


@pytest.mark.oracle
def test_cheap_released_weights_give_their_printed_numbers(sr_data):
    folder = Path(os.environ.get("SR_WEIGHTS") or sr_data.parent / "weights")
    if not folder.is_dir():
        pytest.skip("no released weights")
    rows = list(verify(folder, sr_data, only=["idn_x4", "imdn_x4"], sets=["Set5"]))
    assert [row.name for row in rows] == ["idn_x4", "imdn_x4"]
    for row in rows:
        assert row.agrees, str(row)


# ---- what the protocols of the releases need ----------------------------------------------------


def test_ssim_with_repeated_borders_is_that_of_filtering_the_whole_image():
    ndimage = pytest.importorskip("scipy.ndimage")
    from sr_lightning.metrics.quality import ssim

    generator = torch.Generator().manual_seed(0)
    a = 255 * torch.rand(1, 1, 14, 17, generator=generator, dtype=torch.float64)
    b = (a + 20 * torch.randn(a.shape, generator=generator, dtype=torch.float64)).clamp(0, 255)
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    x, y = a[0, 0].numpy(), b[0, 0].numpy()

    def mean(image):
        return ndimage.correlate(image, window, mode="nearest")

    mx, my = mean(x), mean(y)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mx * my + c1) / (mx**2 + my**2 + c1)
    variances = mean(x * x) - mx**2 + mean(y * y) - my**2
    structure = (2 * (mean(x * y) - mx * my) + c2) / (variances + c2)
    assert float(ssim(a, b, border="replicate")) == pytest.approx(
        (luminance * structure).mean(), abs=1e-6
    )
    assert float(ssim(a, b)) != pytest.approx(float(ssim(a, b, border="replicate")), abs=1e-4)


def test_unrounded_lr_images_are_the_files_before_rounding():
    from sr_lightning.data.degradation import degrade

    hr = torch.randint(60, 200, (1, 3, 24, 24), generator=torch.Generator().manual_seed(0)) / 255
    exact, file = degrade(hr, 2, "rgb_float") * 255, degrade(hr, 2) * 255
    assert (exact - exact.round()).abs().max() > 0.1
    # The classic files are rounded between the two passes as well.
    assert (exact - file).abs().max() < 1.3


@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded where /proc tells of it")
def test_a_reader_that_unpacks_without_end_ends_alone():
    with pytest.raises(ValueError, match=r"^$"):
        matlab._apart(lambda: {"x": [bytes(2**20) for _ in range(4096)]}, size=100)
