"""Weight files say what they are, load strictly, and never run code."""

from __future__ import annotations

import json
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file

from sr_lightning.baselines.fsrcnn import FSRCNN
from sr_lightning.errors import UserError
from sr_lightning.papers.hfdn import HFDN
from sr_lightning.training.checkpoints import SafeCheckpointIO
from sr_lightning.training.warm_start import load_matching
from sr_lightning.weights.files import describe_network, load_network, read_weights, save_network

SMALL = {"scale": 3, "channels": 16, "blocks": 1, "layers": 2, "growth": 8, "levels": "sd"}


@pytest.fixture
def saved(tmp_path):
    network = HFDN(**SMALL).eval()
    save_network(network, tmp_path / "net.safetensors")
    return network, tmp_path / "net.safetensors"


def test_network_comes_back_from_its_file(saved):
    network, path = saved
    lr = torch.rand(1, 3, 8, 9)
    loaded = load_network(path)
    assert loaded.config == network.config
    with torch.no_grad():
        assert torch.equal(loaded(lr), network(lr))


def test_weight_file_can_be_read_by_those_who_can_read_its_neighbours(saved, tmp_path):
    _, path = saved
    (tmp_path / "neighbour").write_bytes(b"")
    assert path.stat().st_mode == (tmp_path / "neighbour").stat().st_mode


def edit(path, change):
    tensors = load_file(path)
    network = json.dumps(
        {"class_path": "sr_lightning.papers.hfdn.network.HFDN", "init_args": SMALL}
    )
    change(tensors)
    save_file(tensors, path, metadata={"network": network})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("fusion.bias"), r"missing fusion\.bias"),
        (lambda t: t.update(extra=torch.zeros(1)), "surplus extra"),
        (lambda t: t.update({"fusion.bias": torch.zeros(3)}), r"fusion\.bias is \(3,\) instead of"),
    ],
)
def test_wrong_tensors_are_named(saved, change, message):
    _, path = saved
    edit(path, change)
    with pytest.raises(UserError, match=message):
        load_network(path)


def test_damaged_missing_and_foreign_files_are_named(saved, tmp_path):
    _, path = saved
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="damaged or not a weight file"):
        load_network(path)
    with pytest.raises(UserError, match="does not exist"):
        load_network(tmp_path / "none.ckpt")
    (tmp_path / "text.ckpt").write_text("hello")
    with pytest.raises(UserError, match="damaged or not a weight file"):
        read_weights(tmp_path / "text.ckpt")


class _Bomb:
    def __reduce__(self):
        return (open, ("exploded.txt", "w"))


def test_code_in_a_pickle_is_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bomb.ckpt").write_bytes(pickle.dumps({"state_dict": _Bomb()}))
    torch.save({"state_dict": _Bomb()}, tmp_path / "bomb2.ckpt")
    for name in ("bomb.ckpt", "bomb2.ckpt"):
        with pytest.raises(UserError):
            read_weights(tmp_path / name)
    assert not (tmp_path / "exploded.txt").exists()


@pytest.mark.parametrize("class_path", ["os.system", "sr_lightning.errors.UserError", "nonsense"])
def test_file_cannot_name_a_class_outside_the_networks(tmp_path, class_path):
    path = tmp_path / "x.safetensors"
    description = json.dumps({"class_path": class_path, "init_args": {}})
    save_file({"a": torch.zeros(1)}, path, metadata={"network": description})
    with pytest.raises(
        UserError, match=r"neither of this suite|not a subclass|not imported|is no class"
    ):
        load_network(path)


def test_warm_start_takes_what_fits_and_leaves_the_rest(saved):
    network, path = saved
    other = HFDN(**{**SMALL, "scale": 4})
    before = other.state_dict()["deconvolution.s.weight"].clone()
    load_matching(other, path)
    after = other.state_dict()
    assert torch.equal(after["shallow.0.weight"], network.state_dict()["shallow.0.weight"])
    assert torch.equal(after["deconvolution.s.weight"], before)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_warm_start_looks_behind_the_prefixes_of_wrappers(tmp_path, saved, prefix):
    network, _ = saved
    state = {f"{prefix}{name}": value for name, value in network.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "x.pth")
    other = HFDN(**SMALL)
    load_matching(other, str(tmp_path / "x.pth"))
    for name, value in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)


def test_warm_start_from_another_architecture_is_refused(tmp_path, saved):
    _, path = saved
    with pytest.raises(UserError, match="another architecture"):
        load_matching(torch.nn.Linear(2, 2), path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda w: w * float("nan"), "holds NaN or infinity"),
        (lambda w: torch.full_like(w, -torch.inf), "holds NaN or infinity"),
        (lambda w: w.double() + 1e300, "holds NaN or infinity"),
        (lambda w: w.to(torch.int32), "is of int32, but weights are"),
        (lambda w: w > 0, "is of bool, but weights are"),
        (lambda w: w.to(torch.complex64), "is of complex64, but weights are"),
    ],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt", ".pth"])
def test_numbers_that_are_no_weights_are_refused_by_every_reader(tmp_path, spoil, words, suffix):
    network = FSRCNN(4)
    state = dict(network.state_dict())
    name = next(iter(state))
    state[name] = spoil(state[name])
    path = tmp_path / f"x{suffix}"
    if suffix == ".safetensors":
        if state[name].is_complex():
            pytest.skip("safetensors of this version may hold none")
        save_file(state, path, {"network": json.dumps(describe_network(network))})
    else:
        named = {f"network.{key}": value for key, value in state.items()}
        torch.save({"state_dict": named, "network": describe_network(network)}, path)
    for read in (load_network, lambda it: load_matching(FSRCNN(4), str(it))):
        with pytest.raises(UserError, match=words) as refused:
            read(path)
        assert name in str(refused.value)
        assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    "change",
    [
        {"init_args": 5},
        {"init_args": {"scale": None}},
        {"init_args": {"scale": 10**30}},
        {"init_args": {"scale": [[4]]}},
        {"init_args": {"scale": float("nan")}},
        {"class_path": 7},
        {"class_path": {"a": 1}},
    ],
)
def test_a_description_of_wrong_types_is_refused_in_a_sentence(tmp_path, change):
    network = FSRCNN(4)
    path = tmp_path / "x.safetensors"
    description = describe_network(network) | change
    save_file(dict(network.state_dict()), path, {"network": json.dumps(description)})
    with pytest.raises(UserError, match=r"x\.safetensors"):
        load_network(path)


@pytest.mark.parametrize("noted", ["[", "5", '"x"', "[" * 100_000])
def test_a_description_that_is_none_is_refused(tmp_path, noted):
    path = tmp_path / "x.safetensors"
    save_file(dict(FSRCNN(4).state_dict()), path, {"network": noted})
    with pytest.raises(UserError, match=r"x\.safetensors"):
        load_network(path)


def test_a_flipped_bit_of_a_checkpoint_is_noticed(tmp_path):
    network, path = FSRCNN(4), tmp_path / "x.ckpt"
    named = {f"network.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": named, "network": describe_network(network)}, path)
    load_network(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="is damaged"):
        load_network(path)


def test_a_packed_archive_is_not_unpacked(tmp_path):
    plain, packed = tmp_path / "plain.ckpt", tmp_path / "packed.ckpt"
    torch.save({"state_dict": {"network.a": torch.zeros(1000)}}, plain)
    with (
        zipfile.ZipFile(plain) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(UserError, match="is damaged"):
        load_network(packed)


def test_a_few_bytes_cannot_stand_for_any_number_of_weights(tmp_path):
    state = {"network.a": torch.zeros(1).expand(1 << 40)}
    torch.save({"state_dict": state, "pytorch-lightning_version": "2"}, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match=r"x\.ckpt: 'network\.a' repeats its numbers"):
        SafeCheckpointIO().load_checkpoint(tmp_path / "x.ckpt")


def test_a_place_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"Cannot write .*Not a directory|File exists"):
        save_network(FSRCNN(4), tmp_path / "file" / "x.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("scale", [0, -2, 0.5])
def test_a_scale_that_is_none_is_refused(tmp_path, scale):
    network = FSRCNN(2, channels=8, shrunk=4, depth=1)
    description = {**describe_network(network), "init_args": {**network.config, "scale": scale}}
    path = tmp_path / "w.safetensors"
    save_file(dict(network.state_dict()), path, {"network": json.dumps(description)})
    with pytest.raises(UserError, match=r"w.safetensors wants a FSRCNN .*scales are numbers from"):
        load_network(path)
