"""Weight files say what they are, load strictly, and never run code."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from sr_lightning.errors import UserError
from sr_lightning.papers.hfdn import HFDN
from sr_lightning.training.warm_start import load_matching
from sr_lightning.weights.files import load_network, read_weights, save_network

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
    with pytest.raises(UserError, match=r"neither of this suite|not a subclass|not imported"):
        load_network(path)


def test_warm_start_takes_what_fits_and_leaves_the_rest(saved):
    network, path = saved
    other = HFDN(**{**SMALL, "scale": 4})
    before = other.state_dict()["deconvolution.s.weight"].clone()
    load_matching(other, path)
    after = other.state_dict()
    assert torch.equal(after["shallow.0.weight"], network.state_dict()["shallow.0.weight"])
    assert torch.equal(after["deconvolution.s.weight"], before)


def test_warm_start_from_another_architecture_is_refused(tmp_path, saved):
    _, path = saved
    with pytest.raises(UserError, match="another architecture"):
        load_matching(torch.nn.Linear(2, 2), path)
