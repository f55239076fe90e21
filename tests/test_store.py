"""The memory map of decoded images: same pixels, made once, safe to interrupt and to share."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from conftest import picture, save_pictures

from sr_lightning.data import store as store_module
from sr_lightning.data.compressed import open_store
from sr_lightning.data.images import find_images, read_rgb
from sr_lightning.data.store import PixelStore, pack_pixels
from sr_lightning.errors import UserError


@pytest.fixture
def files(tmp_path):
    return find_images(save_pictures(tmp_path / "set", 3, (18, 25)))


def make(files, tmp_path) -> PixelStore:
    return PixelStore.of_files(files, label="set", cache=tmp_path / "cache")


def test_stored_pixels_are_the_files(files, tmp_path):
    store = make(files, tmp_path)
    for index, path in enumerate(files):
        assert np.array_equal(store.rgb(index), read_rgb(path))
        assert np.array_equal(store[index], pack_pixels(read_rgb(path)))
    store.verify()


def test_second_opening_decodes_nothing(files, tmp_path, monkeypatch):
    make(files, tmp_path)
    monkeypatch.setattr(store_module, "read_picture", lambda path: pytest.fail("decoded again"))
    assert len(make(files, tmp_path)) == 3


def test_changed_image_makes_a_new_store(files, tmp_path):
    first = make(files, tmp_path)
    from PIL import Image

    Image.fromarray(picture(77, 18, 25)).save(files[0])
    os.utime(files[0], ns=(1, 1))
    second = make(files, tmp_path)
    assert second.folder != first.folder
    assert np.array_equal(second.rgb(0), picture(77, 18, 25))


def test_interrupted_making_leaves_nothing_and_can_be_repeated(files, tmp_path, monkeypatch):
    calls = []

    def failing(path):
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return read(path)

    read = store_module.read_picture
    monkeypatch.setattr(store_module, "read_picture", failing)
    with pytest.raises(KeyboardInterrupt):
        make(files, tmp_path)
    assert not [p for p in (tmp_path / "cache" / "pixels").iterdir() if p.is_dir()]
    monkeypatch.setattr(store_module, "read_picture", read)
    make(files, tmp_path).verify()


def test_leftover_of_a_killed_process_is_replaced(files, tmp_path):
    finished = make(files, tmp_path).folder
    part = finished.with_name(finished.name + ".part")
    finished.rename(part)
    (part / "manifest.json").unlink()
    make(files, tmp_path).verify()
    assert not part.exists()


def _make_in_process(files, cache, queue):
    queue.put(PixelStore.of_files(files, label="set", cache=cache).checksum)


def test_two_processes_make_one_store(files, tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    jobs = [
        context.Process(target=_make_in_process, args=(files, tmp_path / "cache", queue))
        for _ in range(2)
    ]
    for job in jobs:
        job.start()
    sums = {queue.get(timeout=60) for _ in jobs}
    for job in jobs:
        job.join(timeout=60)
    assert len(sums) == 1
    assert len([p for p in (tmp_path / "cache" / "pixels").iterdir() if p.is_dir()]) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m | {"images": 3},
        lambda m: m | {"pixels": "many"},
        lambda m: m | {"images": [{**m["images"][0], "height": -1}, *m["images"][1:]]},
        lambda m: m | {"images": [{**m["images"][0], "offset": 10**30}, *m["images"][1:]]},
        lambda m: m | {"images": [{**m["images"][0], "phash": ""}, *m["images"][1:]]},
        lambda m: {},
    ],
)
def test_a_record_that_cannot_be_believed_has_the_store_made_again(files, tmp_path, change):
    before = make(files, tmp_path)
    manifest = before.folder / "manifest.json"
    manifest.write_text(json.dumps(change(json.loads(manifest.read_text()))))
    store = make(files, tmp_path)
    assert store.images == before.images
    assert np.array_equal(store.rgb(0), read_rgb(files[0]))


def test_damage_is_found(files, tmp_path):
    store = make(files, tmp_path)
    pixels = store.folder / "pixels.u32"
    content = bytearray(pixels.read_bytes())
    content[100] ^= 1
    pixels.write_bytes(content)
    with pytest.raises(UserError, match="is damaged; delete that folder"):
        PixelStore(store.folder).verify()


def test_derived_store_holds_the_function_of_each_image(files, tmp_path):
    store = make(files, tmp_path)
    derived = store.derived("negative", lambda rgb: 255 - rgb, cache=tmp_path / "cache")
    assert np.array_equal(derived.rgb(2), 255 - store.rgb(2))
    assert [image.name for image in derived.images] == [image.name for image in store.images]


def test_store_travels_to_workers_without_its_pixels(files, tmp_path):
    store = make(files, tmp_path)
    store[0]
    twin = pickle.loads(pickle.dumps(store))
    assert np.array_equal(twin[1], store[1])
    assert len(pickle.dumps(store)) < 10_000


def test_unwritable_cache_is_named(files, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(UserError, match="SR_CACHE"):
        PixelStore.of_files(files, label="set", cache=Path(blocked))


def test_unreadable_image_is_named_and_nothing_is_left(files, tmp_path):
    files[1].write_bytes(b"")
    with pytest.raises(UserError, match="is empty"):
        make(files, tmp_path)
    assert not [p for p in (tmp_path / "cache" / "pixels").iterdir() if p.is_dir()]


def test_a_compressed_store_gives_the_pixels_of_a_decoded_one(tmp_path):
    files = find_images(save_pictures(tmp_path / "set", 3, (300, 130), seed=4))
    decoded, packed = (
        open_store(files, "set", kind, tmp_path) for kind in ("decoded", "compressed")
    )
    assert (packed.checksum, packed.images) == (decoded.checksum, decoded.images)
    packed = pickle.loads(pickle.dumps(packed))
    for index in range(3):
        whole = decoded[index]
        assert packed[index].shape == whole.shape
        assert np.array_equal(packed.rgb(index), decoded.rgb(index))
        assert np.array_equal(packed[index][100:290, 7:130], whole[100:290, 7:130])
        corner = np.ix_([0, 0, 1, 299], [129, 2, 2])
        assert np.array_equal(packed[index][corner], whole[corner])
    packed.verify()


def test_compressed_stores_derive_others_beside_decoded_ones(tmp_path):
    files = find_images(save_pictures(tmp_path / "set", 2, (300, 130), seed=4))
    halves = [
        open_store(files, "set", kind, tmp_path).derived(
            "half", lambda rgb: rgb[::2, ::2], cache=tmp_path
        )
        for kind in ("decoded", "compressed")
    ]
    assert halves[0].checksum == halves[1].checksum
    assert halves[0].folder != halves[1].folder


@pytest.mark.parametrize("harm", ["bytes", "ends", "size"])
def test_a_damaged_compressed_store_is_named(tmp_path, harm):
    files = find_images(save_pictures(tmp_path / "set", 2, (300, 130), seed=4))
    store = open_store(files, "set", "compressed", tmp_path)
    blocks, ends = store.folder / "blocks.webp", store.folder / "ends.i64"
    if harm == "bytes":
        blocks.write_bytes(bytes(40) + blocks.read_bytes()[40:])
    elif harm == "ends":
        # The last alone; it is as large as the file of blocks.
        ends.write_bytes(ends.read_bytes()[-8:])
    else:
        # The second block, which is narrower than the first, in its place.
        of_block = np.fromfile(ends, dtype=np.int64)
        content = blocks.read_bytes()
        first, second = content[: of_block[0]], content[of_block[0] : of_block[1]]
        blocks.write_bytes(second + first + content[of_block[1] :])
        of_block[0] = len(second)
        of_block.tofile(ends)
    store = open_store(files, "set", "compressed", tmp_path)
    for use in (store.verify, lambda: store.rgb(0)):
        with pytest.raises(UserError, match="is damaged; delete that folder"):
            use()


@pytest.mark.parametrize("name", ["blocks.webp", "ends.i64", "manifest.json"])
@pytest.mark.parametrize("harm", ["short", "pipe", "folder"])
def test_a_compressed_store_that_is_not_whole_is_made_again(tmp_path, name, harm):
    files = find_images(save_pictures(tmp_path / "set", 2, (300, 130), seed=4))
    path = open_store(files, "set", "compressed", tmp_path).folder / name
    content = path.read_bytes()
    path.unlink()
    if harm == "short":
        path.write_bytes(content[:-1])
    elif harm == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    open_store(files, "set", "compressed", tmp_path).verify()
