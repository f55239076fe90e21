"""Files of others' layouts give, as networks of ours, what the releases' own code computes.

Each reference below is a release's forward pass, written from its public description, which names
its tensors as that release does; what it has named by then is the file.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from sr_lightning.cli import main
from sr_lightning.colour import rgb_to_y
from sr_lightning.errors import UserError
from sr_lightning.nn.bicubic import bicubic
from sr_lightning.training.warm_start import load_matching
from sr_lightning.weights.convert import convert, network_from_release
from sr_lightning.weights.files import load_network, read_weights
from sr_lightning.weights.state_dict_maps import RELEASES

MEAN = torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1)


class File(dict):
    """Tensors by name, each made when a reference first asks for it."""

    def tensor(self, name, *shape, positive=False):
        if name not in self:
            value = torch.randn(shape, generator=torch.Generator().manual_seed(len(self)))
            self[name] = value.abs() + 0.5 if positive else 0.3 * value
        return self[name]

    def conv(self, name, x, out, side, stride=1, pad=None, mode="constant"):
        weight = self.tensor(f"{name}.weight", out, x.shape[1], side, side)
        bias = self.tensor(f"{name}.bias", out)
        pad = side // 2 if pad is None else pad
        return F.conv2d(F.pad(x, (pad,) * 4, mode), weight, bias, stride)

    def upsampler(self, name, x, scale):
        """Steps of EDSR's upsampler: convolution, shuffle, convolution, shuffle."""
        for step, factor in enumerate({2: (2,), 3: (3,), 4: (2, 2)}[scale]):
            out = x.shape[1] * factor**2
            x = F.pixel_shuffle(self.conv(f"{name}.{2 * step}", x, out, 3), factor)
        return x

    def shift(self, name, x, sign):
        self[f"{name}.weight"] = torch.eye(3).view(3, 3, 1, 1)
        self[f"{name}.bias"] = sign * 255 * MEAN.flatten()
        return x + sign * 255 * MEAN


def residual_block(file, name, x, side=3, scale=1.0):
    inner = file.conv(f"{name}.body.0", x, x.shape[1], side).relu()
    return x + scale * file.conv(f"{name}.body.2", inner, x.shape[1], side)


def edsr(file, lr, scale, channels=8, factor=1.0):
    head = file.conv("head.0", file.shift("sub_mean", 255 * lr, -1), channels, 3)
    x = head
    for block in range(3):
        x = residual_block(file, f"body.{block}", x, scale=factor)
    x = head + file.conv("body.3", x, channels, 3)
    x = file.conv("tail.1", file.upsampler("tail.0", x, scale), 3, 3)
    return file.shift("add_mean", x, 1) / 255


def mdsr(file, lr, scale):
    for index, by in enumerate((2, 3, 4)):
        head = file.conv("head.0", file.shift("sub_mean", 255 * lr, -1), 8, 3)
        for block in range(2):
            head = residual_block(file, f"pre_process.{index}.{block}", head, side=5)
        x = file.conv("body.1", residual_block(file, "body.0", head), 8, 3)
        x = file.upsampler(f"upsample.{index}", head + x, by)
        sr = file.shift("add_mean", file.conv("tail.0", x, 3, 3), 1) / 255
        if by == scale:
            wanted = sr
    return wanted


def rcan(file, lr, scale):
    head = file.conv("head.0", file.shift("sub_mean", 255 * lr, -1), 8, 3)
    x = head
    for group in range(2):
        start = x
        for block in range(2):
            name = f"body.{group}.body.{block}.body"
            inner = file.conv(f"{name}.0", x, 8, 3).relu()
            inner = file.conv(f"{name}.2", inner, 8, 3)
            if f"{name}.3.conv_du.0.weight" not in file:
                # So small that the sigmoid is not at its ends.
                file.tensor(f"{name}.3.conv_du.0.weight", 4, 8, 1, 1).mul_(0.003)
            gate = file.conv(f"{name}.3.conv_du.0", inner.mean((2, 3), keepdim=True), 4, 1)
            gate = file.conv(f"{name}.3.conv_du.2", gate.relu(), 8, 1).sigmoid()
            x = x + inner * gate
        x = start + file.conv(f"body.{group}.body.2", x, 8, 3)
    x = head + file.conv("body.2", x, 8, 3)
    x = file.conv("tail.1", file.upsampler("tail.0", x, scale), 3, 3)
    return file.shift("add_mean", x, 1) / 255


def basicsr(file, lr, scale, body):
    """What BasicSR's EDSR and RCAN have around their bodies; it keeps the mean in no tensor."""
    head = file.conv("conv_first", 255 * (lr - MEAN), 8, 3)
    x = head + file.conv("conv_after_body", body(head), 8, 3)
    return file.conv("conv_last", file.upsampler("upsample", x, scale), 3, 3) / 255 + MEAN


def edsr_basicsr(file, lr, scale):
    def body(x):
        for block in range(3):
            inner = file.conv(f"body.{block}.conv1", x, 8, 3).relu()
            x = x + file.conv(f"body.{block}.conv2", inner, 8, 3)
        return x

    return basicsr(file, lr, scale, body)


def rcan_basicsr(file, lr, scale):
    def body(x):
        for group in range(2):
            start = x
            for block in range(2):
                name = f"body.{group}.residual_group.{block}.rcab"
                inner = file.conv(f"{name}.0", x, 8, 3).relu()
                inner = file.conv(f"{name}.2", inner, 8, 3)
                if f"{name}.3.attention.1.weight" not in file:
                    # So small that the sigmoid is not at its ends.
                    file.tensor(f"{name}.3.attention.1.weight", 4, 8, 1, 1).mul_(0.003)
                gate = inner.mean((2, 3), keepdim=True)
                gate = file.conv(f"{name}.3.attention.1", gate, 4, 1).relu()
                x = x + inner * file.conv(f"{name}.3.attention.3", gate, 8, 1).sigmoid()
            x = start + file.conv(f"body.{group}.conv", x, 8, 3)
        return x

    return basicsr(file, lr, scale, body)


def rdn(file, lr, scale):
    first = file.conv("SFENet1", 255 * lr, 8, 3)
    x, outputs = file.conv("SFENet2", first, 8, 3), []
    for block in range(2):
        seen = x
        for layer in range(3):
            new = file.conv(f"RDBs.{block}.convs.{layer}.conv.0", seen, 4, 3).relu()
            seen = torch.cat([seen, new], 1)
        x = x + file.conv(f"RDBs.{block}.LFF", seen, 8, 1)
        outputs.append(x)
    x = file.conv("GFF.1", file.conv("GFF.0", torch.cat(outputs, 1), 8, 1), 8, 3) + first
    last = {2: 2, 3: 2, 4: 4}[scale]
    return file.conv(f"UPNet.{last}", file.upsampler("UPNet", x, scale), 3, 3) / 255


def dbpn(file, lr, scale):
    side = {2: 6, 4: 8, 8: 12}[scale]

    def act(name, x):
        return F.prelu(x, file.tensor(f"{name}.act.weight", 1))

    def down(name, x):
        return act(name, file.conv(f"{name}.conv", x, 4, side, scale, 2))

    def up(name, x):
        weight = file.tensor(f"{name}.deconv.weight", 4, 4, side, side)
        bias = file.tensor(f"{name}.deconv.bias", 4)
        return act(name, F.conv_transpose2d(x, weight, bias, scale, 2))

    def project(name, x, there, back):
        kind = name.rstrip("0123456789")
        if x.shape[1] > 4:
            x = act(f"{name}.conv", file.conv(f"{name}.conv.conv", x, 4, 1))
        high = there(f"{name}.{kind}_conv1", x)
        low = back(f"{name}.{kind}_conv2", high)
        return there(f"{name}.{kind}_conv3", low - x) + high

    x = act("feat0", file.conv("feat0.conv", lr, 6, 3))
    x = act("feat1", file.conv("feat1.conv", x, 4, 1))
    high = project("up1", x, up, down)
    low = project("down1", high, down, up)
    high = torch.cat([project("up2", low, up, down), high], 1)
    for stage in (3, 4):
        low = torch.cat([project(f"down{stage - 1}", high, down, up), low], 1)
        high = torch.cat([project(f"up{stage}", low, up, down), high], 1)
    return file.conv("output_conv.conv", high, 3, 3)


def awsrn(file, lr, scale):
    def conv(name, x, out, side):
        direction = file.tensor(f"{name}.weight_v", out, x.shape[1], side, side)
        length = file.tensor(f"{name}.weight_g", out, 1, 1, 1)
        norm = direction.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        bias = file.tensor(f"{name}.bias", out)
        return F.conv2d(x, length * direction / norm, bias, padding=side // 2)

    x = (255 * lr - 255 * MEAN) / 127.5
    out = 3 * scale**2
    skip = conv("skip.0", x, out, 3)
    x = conv("head.0", x, 6, 3)
    for block in range(2):
        start, seen = x, []
        for unit in range(4):
            name = f"body.{block}.b{unit}"
            inner = conv(f"{name}.body.2", conv(f"{name}.body.0", x, 10, 3).relu(), 6, 3)
            by, own = (file.tensor(f"{name}.{k}_scale.scale", 1) for k in ("res", "x"))
            x = by * inner + own * x
            seen.append(x)
        fused = conv(f"body.{block}.reduction", torch.cat(seen, 1), 6, 3)
        by, own = (file.tensor(f"body.{block}.{k}_scale.scale", 1) for k in ("res", "x"))
        x = by * fused + own * start
    sides = (3, 5, 7, 9)
    x = sum(
        file.tensor(f"tail.scale_k{s}.scale", 1) * conv(f"tail.tail_k{s}", x, out, s) for s in sides
    )
    return (F.pixel_shuffle(x + skip, scale) * 127.5 + 255 * MEAN) / 255


def safmn(file, lr, scale):
    def conv(name, x, out, side, groups=1):
        weight = file.tensor(f"{name}.weight", out, x.shape[1] // groups, side, side)
        bias = file.tensor(f"{name}.bias", out)
        return F.conv2d(x, weight, bias, padding=side // 2, groups=groups)

    def norm(name, x):
        gain, bias = (
            file.tensor(f"{name}.{kind}", 8).view(-1, 1, 1) for kind in ("weight", "bias")
        )
        centred = x - x.mean(1, keepdim=True)
        return gain * centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt() + bias

    first = x = conv("to_feat", lr, 8, 3)
    size = x.shape[-2:]
    for block in range(2):
        name = f"feats.{block}"
        normed, seen = norm(f"{name}.norm1", x), []
        for level, part in enumerate(normed.chunk(4, 1)):
            # Of an image this small, the last level has one cell.
            cells = [max(1, side // 2**level) for side in size]
            part = conv(f"{name}.safm.mfr.{level}", F.adaptive_max_pool2d(part, cells), 2, 3, 2)
            seen.append(F.interpolate(part, size, mode="nearest"))
        x = x + F.gelu(conv(f"{name}.safm.aggr", torch.cat(seen, 1), 8, 1)) * normed
        inner = F.gelu(conv(f"{name}.ccm.ccm.0", norm(f"{name}.norm2", x), 12, 3))
        x = x + conv(f"{name}.ccm.ccm.2", inner, 8, 1)
    return F.pixel_shuffle(conv("to_img.0", x + first, 3 * scale**2, 3), scale)


def span(file, lr, scale):
    def conv(name, x):
        """In training; in use, the release has one convolution more, made of these."""
        inner = F.pad(x, (1, 1, 1, 1))
        wide = 2 * x.shape[1]
        for index, (out, side) in enumerate(((wide, 1), (16, 3), (8, 1))):
            inner = file.conv(f"{name}.conv.{index}", inner, out, side, pad=0)
        file.tensor(f"{name}.eval_conv.weight", 8, x.shape[1], 3, 3)
        file.tensor(f"{name}.eval_conv.bias", 8)
        return inner + file.conv(f"{name}.sk", x, 8, 1)

    first = x = conv("conv_1", 255 * (lr - MEAN))
    kept = []
    for block in (1, 2, 3):
        # In place there, so that the concatenation below has it activated.
        inner = F.silu(conv(f"block_{block}.c1_r", x))
        found = conv(f"block_{block}.c3_r", F.silu(conv(f"block_{block}.c2_r", inner)))
        x = (found + x) * (found.sigmoid() - 0.5)
        kept.append(x)
    whole = torch.cat([first, conv("conv_2", x), kept[0], inner], 1)
    return F.pixel_shuffle(
        file.conv("upsampler.0", file.conv("conv_cat", whole, 8, 1), 3 * scale**2, 3), scale
    )


def swinir(file, lr, scale):
    """Windows of 4, taken one by one, of an image that is mirrored to 8 x 12."""
    window, heads, width = 4, 2, 8

    def linear(name, x, out):
        weight = file.tensor(f"{name}.weight", out, x.shape[-1])
        return F.linear(x, weight, file.tensor(f"{name}.bias", out))

    def norm(name, x):
        gain, bias = (file.tensor(f"{name}.{kind}", width) for kind in ("weight", "bias"))
        return F.layer_norm(x, (width,), gain, bias)

    def attention(name, x, apart):
        q, k, v = linear(f"{name}.qkv", x, 3 * width).chunk(3, -1)
        table = file.tensor(f"{name}.relative_position_bias_table", (2 * window - 1) ** 2, heads)
        file.tensor(f"{name}.relative_position_index", window**2, window**2)
        places = [(i, j) for i in range(window) for j in range(window)]
        rows = [
            table[(2 * window - 1) * (a - c + window - 1) + b - d + window - 1]
            for a, b in places
            for c, d in places
        ]
        bias = torch.stack(rows).reshape(window**2, window**2, heads)
        outputs = []
        for head in range(heads):
            part = slice(head * width // heads, (head + 1) * width // heads)
            logits = q[:, part] @ k[:, part].T * (width // heads) ** -0.5 + bias[..., head]
            outputs.append((logits - 100 * apart).softmax(-1) @ v[:, part])
        return linear(f"{name}.proj", torch.cat(outputs, -1), width)

    def layer(name, x, shift):
        size = x.shape[:2]
        turned = norm(f"{name}.norm1", x).roll((-shift, -shift), (0, 1))
        ends = [torch.arange(side) >= side - shift for side in size]
        if shift:
            file.tensor(f"{name}.attn_mask", 6, window**2, window**2)
        result = torch.zeros_like(turned)
        for top in range(0, size[0], window):
            for left in range(0, size[1], window):
                rows, columns = slice(top, top + window), slice(left, left + window)
                parts = (2 * ends[0][rows, None] + ends[1][columns]).flatten()
                apart = (parts[:, None] != parts).float()
                seen = attention(f"{name}.attn", turned[rows, columns].flatten(0, 1), apart)
                result[rows, columns] = seen.unflatten(0, (window, window))
        x = x + result.roll((shift, shift), (0, 1))
        inner = F.gelu(linear(f"{name}.mlp.fc1", norm(f"{name}.norm2", x), 2 * width))
        return x + linear(f"{name}.mlp.fc2", inner, width)

    mirrored = torch.cat([lr, lr.flip(2)], 2)[:, :, :8]
    mirrored = torch.cat([mirrored, mirrored.flip(3)], 3)[..., :12]
    first = file.conv("conv_first", mirrored - MEAN, width, 3)
    x = norm("patch_embed.norm", first[0].permute(1, 2, 0))
    for group in range(2):
        start = x
        for index in range(2):
            x = layer(f"layers.{group}.residual_group.blocks.{index}", x, 2 * index)
        conv = file.conv(f"layers.{group}.conv", x.permute(2, 0, 1)[None], width, 3)
        x = start + conv[0].permute(1, 2, 0)
    x = file.conv("conv_after_body", norm("norm", x).permute(2, 0, 1)[None], width, 3) + first
    sr = F.pixel_shuffle(file.conv("upsample.0", x, 3 * scale**2, 3), scale) + MEAN
    return sr[..., : 7 * scale, : 9 * scale]


CASES = [
    ("edsr", edsr, 2),
    ("edsr", edsr, 3),
    ("edsr", edsr, 4),
    ("mdsr", mdsr, 3),
    ("mdsr", mdsr, 4),
    ("rcan", rcan, 4),
    ("edsr_basicsr", edsr_basicsr, 2),
    ("edsr_basicsr", edsr_basicsr, 3),
    ("edsr_basicsr", edsr_basicsr, 4),
    ("rcan_basicsr", rcan_basicsr, 4),
    ("rdn", rdn, 2),
    ("rdn", rdn, 3),
    ("rdn", rdn, 4),
    ("dbpn", dbpn, 2),
    ("dbpn", dbpn, 4),
    ("awsrn", awsrn, 2),
    ("awsrn", awsrn, 3),
    ("safmn", safmn, 3),
    ("safmn", safmn, 4),
    ("span", span, 2),
    ("span", span, 4),
    ("swinir", swinir, 2),
    ("swinir", swinir, 3),
]


def written(reference, scale, path):
    """An LR image, and the file and the answer of a release."""
    lr = torch.rand(1, 3, 7, 9, generator=torch.Generator().manual_seed(5))
    file = File()
    sr = reference(file, lr, scale)
    torch.save(dict(file), path)
    return lr, sr, file


@pytest.mark.parametrize(("arch", "reference", "scale"), CASES)
def test_pytorch_releases_compute_what_their_code_does(arch, reference, scale, tmp_path):
    lr, sr, _ = written(reference, scale, tmp_path / "x.pt")
    record = convert(tmp_path / "x.pt", tmp_path / "x.safetensors")
    assert record.arch == arch
    network = load_network(tmp_path / "x.safetensors")
    assert isinstance(network, RELEASES[arch].network)
    with torch.no_grad():
        ours = network.upscale(lr, scale)
    torch.testing.assert_close(ours, sr, rtol=1e-4, atol=1e-4 * float(sr.abs().max()))


def test_the_wide_edsr_has_its_residuals_scaled_unless_told_otherwise(tmp_path):
    lr, sr, _ = written(lambda *a: edsr(*a, channels=256, factor=0.1), 2, tmp_path / "x.pt")
    network = load_network(tmp_path / "x.pt")
    torch.testing.assert_close(network(lr), sr, rtol=1e-4, atol=1e-4 * float(sr.abs().max()))
    plain = network_from_release(tmp_path / "x.pt", residual_scale=1.0)
    assert plain.config["residual_scale"] == 1.0


def test_levels_come_from_the_mean_shift_and_another_mean_is_refused(tmp_path):
    _, _, file = written(edsr, 2, tmp_path / "x.pt")
    one = {k: v / 255 if "mean.bias" in k else v for k, v in file.items()}
    torch.save(one, tmp_path / "one.pt")
    network = load_network(tmp_path / "one.pt")
    assert torch.equal(network.head.weight, file["head.0.weight"])
    other = {**file, "sub_mean.bias": -255 * torch.tensor([0.469, 0.449, 0.4036])}
    torch.save(other, tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"other\.pt takes away another mean colour"):
        load_network(tmp_path / "other.pt")


def test_spans_white_is_told_for_files_of_other_trainings_and_variants_are_not_its(tmp_path):
    lr, sr, file = written(span, 2, tmp_path / "x.pt")
    by_one = network_from_release(tmp_path / "x.pt", white=1.0)
    torch.testing.assert_close(
        by_one(255 * lr + (1 - 255) * MEAN), sr, rtol=1e-3, atol=1e-4 * float(sr.abs().max())
    )
    torch.save({**file, "no_norm": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="no release that is known"):
        load_network(tmp_path / "other.pt")


def test_images_of_one_level_are_told_for_rdn(tmp_path):
    lr, sr, _ = written(rdn, 2, tmp_path / "x.pt")
    by_one = network_from_release(tmp_path / "x.pt", levels=1)
    torch.testing.assert_close(by_one(255 * lr) / 255, sr, rtol=1e-4, atol=1e-3)


# ---- MATLAB and Caffe ---------------------------------------------------------------------------


def columns(weight):
    """Filters as the authors' MATLAB code has them: (inputs, k * k, outputs), column by column."""
    out, inputs, side, _ = weight.shape
    whole = np.empty((inputs, side * side, out))
    for i in range(inputs):
        for o in range(out):
            whole[i, :, o] = weight[o, i].numpy().flatten(order="F")
    return whole


@pytest.mark.parametrize("sides", [(9, 5, 5), (9, 1, 5)])
def test_srcnns_matlab_files(sides, tmp_path):
    io = pytest.importorskip("scipy.io")
    lr = torch.rand(1, 3, 6, 5)
    file = File()
    x = bicubic(rgb_to_y(lr), 3)
    for index, (side, out) in enumerate(zip(sides, (6, 4, 1), strict=True), 1):
        x = file.conv(f"conv{index}", x, out, side, mode="replicate")
        x = x.relu() if index < 3 else x
    content = {f"biases_conv{i}": file[f"conv{i}.bias"].numpy()[:, None] for i in (1, 2, 3)}
    one, two, three = (columns(file[f"conv{i}.weight"]) for i in (1, 2, 3))
    content |= {"weights_conv1": one[0], "weights_conv2": two, "weights_conv3": three[:, :, 0]}
    io.savemat(tmp_path / "x3.mat", content)
    network = load_network(tmp_path / "x3.mat")
    assert network.scales == (3,)
    assert network.config["kernels"] == sides
    torch.testing.assert_close(network.predict(rgb_to_y(lr), 3)[-1], x, rtol=1e-4, atol=1e-4)


def test_a_matlab_file_whose_name_has_no_scale_needs_one(tmp_path, capsys):
    io = pytest.importorskip("scipy.io")
    content = {f"biases_conv{i}": np.zeros((n, 1)) for i, n in ((1, 6), (2, 4), (3, 1))}
    content |= {"weights_conv1": np.zeros((81, 6)), "weights_conv3": np.zeros((4, 25))}
    io.savemat(tmp_path / "model.mat", {**content, "weights_conv2": np.zeros((6, 1, 4))})
    with pytest.raises(UserError, match=r"model\.mat does not tell its scale.*--scale"):
        load_network(tmp_path / "model.mat")
    main(
        [
            *("weights", "convert", str(tmp_path / "model.mat"), "--scale", "2"),
            *("--out", str(tmp_path / "m.safetensors")),
        ]
    )
    assert load_network(tmp_path / "m.safetensors").scales == (2,)


@pytest.mark.parametrize("scale", [2, 3])
def test_fsrcnns_matlab_files(scale, tmp_path):
    io = pytest.importorskip("scipy.io")
    y = torch.rand(1, 1, 7, 6)
    file, x = File(), y
    sizes = [(5, 8), (1, 3), (3, 3), (3, 3), (1, 8)]
    for index, (side, out) in enumerate(sizes):
        x = file.conv(f"{index}", x, out, side, mode="replicate")
        x = F.prelu(x, file.tensor(f"{index}.slope", 1))
    up, bias = file.tensor("up", 8, 1, 9, 9), file.tensor("up.bias", 1)
    front = (10 - scale) // 2
    whole = F.conv_transpose2d(x, up, bias, scale)
    sr = whole[..., front : front + 7 * scale, front : front + 6 * scale]
    cells = {name: np.empty((6, 1), dtype=object) for name in ("weights", "biases", "prelu")}
    for index in range(5):
        cells["weights"][index, 0] = columns(file[f"{index}.weight"])
        cells["biases"][index, 0] = file[f"{index}.bias"].numpy()[:, None]
        cells["prelu"][index, 0] = file[f"{index}.slope"].numpy()[:, None]
    cells["weights"][5, 0] = columns(up)
    cells["biases"][5, 0] = bias.numpy()[:, None]
    cells["prelu"][5, 0] = np.zeros((0, 0))
    path = tmp_path / f"x{scale}.mat"
    io.savemat(path, {f"{name}_conv": value for name, value in cells.items()})
    network = load_network(path)
    assert (network.scale, network.config["depth"]) == (scale, 2)
    torch.testing.assert_close(network.predict(y, scale)[-1], sr, rtol=1e-4, atol=1e-4)


def memnet(file, y, blocks=2, turns=2):
    """Layers of the release's prototxt; a norm has three blobs, of which the last one divides."""

    def norm(name, x):
        channels = (x.shape[1],)
        mean, var = file.tensor(f"{name}.0", *channels), file.tensor(f"{name}.1", *channels)
        by = file.tensor(f"{name}.2", 1, positive=True)
        scale = name.replace("bn_", "scale_")
        gain = file.tensor(f"{scale}.weight", *channels)
        shift = file.tensor(f"{scale}.bias", *channels)
        file[f"{name}.1"] = var.abs()
        return F.batch_norm(x, mean / by, var.abs() / by, gain, shift).relu()

    memories, recoveries = [file.conv("conv1", norm("bn_conv1", y), 4, 3)], []
    for block in range(1, blocks + 1):
        states, x = list(memories), memories[-1]
        for turn in range(1, turns + 1):
            inner = x
            for letter in "ab":
                name = f"conv{block:02}_{turn:02}_{letter}"
                first = f"conv{block:02}_01_{letter}"
                inner = file.conv(first, norm(f"bn_{name}", inner), 4, 3)
                for kind in ("weight", "bias"):
                    file[f"{name}.{kind}"] = file[f"{first}.{kind}"]
            x = x + inner
            states.append(x)
        gate = f"conv_transition_{block:02}"
        memories.append(file.conv(gate, norm(f"bn_{gate}", torch.cat(states, 1)), 4, 1))
    for block in range(1, blocks + 1):
        end = norm(f"bn_conv_end_{block:02}", memories[block])
        recovery = y + file.conv("conv_end_01", end, 1, 3)
        for kind in ("weight", "bias"):
            file[f"conv_end_{block:02}.{kind}"] = file[f"conv_end_01.{kind}"]
        recoveries.append(file.tensor(f"weight_output_end_{block:02}.weight", 1) * recovery)
    return sum(recoveries)


def test_memnets_caffe_files(tmp_path):
    from test_convert import caffemodel

    y = torch.rand(1, 1, 7, 9)
    file = File()
    sr = memnet(file, y)
    caffemodel(tmp_path / "m.caffemodel", file, 1)
    network = load_network(tmp_path / "m.caffemodel")
    assert (network.config["blocks"], network.config["recursions"]) == (2, 2)
    torch.testing.assert_close(network.refine(y)[-1], sr, rtol=1e-4, atol=1e-4)
    file["conv01_02_a.weight"] = file["conv01_02_a.weight"] + 1
    caffemodel(tmp_path / "m.caffemodel", file, 1)
    with pytest.raises(UserError, match=r"'conv01_02_a\.weight' is not 'conv01_01_a\.weight'"):
        load_network(tmp_path / "m.caffemodel")


# ---- one reader ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"params": {k: 9 * v for k, v in s.items()}, "params_ema": s},
        lambda s: {"params": s},
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {f"module._orig_mod.{k}": v for k, v in s.items()},
        lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}, "epoch": 3},
        lambda s: {"state_dict": {f"net_g.{k}": v for k, v in s.items()}},
        lambda s: {"net_g": s, "optimizer": {"lr": 1e-4}},
        lambda s: {"model_state_dict": s},
    ],
    ids=["ema", "params", "module", "compiled", "model", "net_g in names", "net_g", "nested"],
)
def test_what_trainers_wrap_around_names_is_taken_away(wrap, tmp_path):
    _, _, file = written(edsr, 2, tmp_path / "x.pt")
    torch.save(wrap(dict(file)), tmp_path / "x.pt")
    assert torch.equal(
        load_network(tmp_path / "x.pt").body[0].conv1.bias, file["body.0.body.0.bias"]
    )


def test_safetensors_and_half_precision_of_other_suites(tmp_path):
    _, _, file = written(edsr, 2, tmp_path / "x.pt")
    half = {k: v.half() for k, v in file.items()}
    save_file({f"module.{k}": v for k, v in half.items()}, tmp_path / "x.safetensors")
    network = load_network(tmp_path / "x.safetensors")
    assert network.dtype == torch.float32
    assert torch.equal(network.body[3].weight, half["body.3.weight"].float())


def test_a_training_starts_from_a_releases_file(tmp_path):
    _, _, file = written(edsr, 2, tmp_path / "x.pt")
    trained = load_network(tmp_path / "x.pt")
    fresh = type(trained)(scale=4, channels=8, blocks=3)
    load_matching(fresh, str(tmp_path / "x.pt"))
    assert torch.equal(fresh.body[1].conv2.weight, file["body.1.body.2.weight"])
    assert set(read_weights(tmp_path / "x.pt")) == set(trained.state_dict())


def test_names_that_count_endless_layers_are_refused(tmp_path):
    _, _, file = written(edsr, 2, tmp_path / "x.pt")
    torch.save({**file, "body.99999999.body.0.weight": torch.zeros(1)}, tmp_path / "x.pt")
    with pytest.raises(UserError, match=r"x\.pt is damaged: it numbers layers"):
        load_network(tmp_path / "x.pt")


def test_upscale_takes_a_releases_file_as_it_is(tmp_path):
    from PIL import Image

    written(edsr, 2, tmp_path / "x.pt")
    Image.new("RGB", (9, 7), (90, 120, 30)).save(tmp_path / "a.png")
    main(["upscale", str(tmp_path / "a.png"), "--weights", str(tmp_path / "x.pt")])
    assert Image.open(tmp_path / "a_x2.png").size == (18, 14)
