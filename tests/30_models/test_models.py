"""Models: the one door by which weights come in, and the places where they are looked for."""

import io
import json
import pickle
import struct
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy

from latentzarr.bitstream.tables import FrequencyTables, fixed_tables
from latentzarr.errors import ModelMismatchError, ModelNotFoundError, UntrustedModelError
from latentzarr.geometry import Order, PassKind
from latentzarr.models import store
from latentzarr.models.card import ModelCard
from latentzarr.models.network import ACCUMULATOR_LIMIT, INPUT_TOP, IntegerNetwork, NetworkSet
from latentzarr.models.weights import MAX_MODEL_BYTES, Model, digest_of, load_model, read_model, save_model

KEY = "latentzarr.card"
PARTS = ("w1", "b1", "w2", "b2", "w3", "b3")
RELEASED = "sha256:b3a765c7d5b045662c1a12de9f6d6a1897a2354e0f5824156060e96f823269e4"


@pytest.fixture(scope="module", params=store.SHIPPED)
def shipped(request):
    return store.shipped_model(request.param)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A process that knows no model but the shipped one, with two directories and a cache of its own."""
    first, second, cache = tmp_path / "first", tmp_path / "second", tmp_path / "cache"
    first.mkdir()
    second.mkdir()
    monkeypatch.setenv("LATENTZARR_MODEL_PATH", f"{first}:{second}")
    monkeypatch.setenv("LATENTZARR_CACHE", str(cache))
    monkeypatch.setattr(store, "_registered", {})
    return first, second, cache / "models"


def arrays_of(model):
    return safetensors.numpy.load(model.blob)


def blob_of(model, card=None, **changes):
    """The bytes of a model with some arrays changed (None: left out)."""
    arrays = {k: v for k, v in (arrays_of(model) | changes).items() if v is not None}
    return safetensors.numpy.save(arrays, metadata={KEY: model.card.to_json() if card is None else card})


def other_model(model, name="another"):
    return Model.build(model.networks, model.tables, replace(model.card, name=name))


def with_header(blob, change):
    """The same file with its JSON header changed by ``change(header)``, which returns a value or bytes."""
    (size,) = struct.unpack_from("<Q", blob)
    changed = change(json.loads(blob[8 : 8 + size]))
    text = changed if isinstance(changed, bytes) else json.dumps(changed).encode()
    return struct.pack("<Q", len(text)) + text + blob[8 + size :]


# what goes well


def test_the_shipped_model_is_sound_and_small(shipped):
    assert len(shipped.blob) < 256 * 1024
    assert shipped.card.name
    assert shipped.digest == digest_of(shipped.blob)
    assert shipped.prefix.hex() == shipped.digest[7:23]
    kinds = list(PassKind)[: shipped.order.kinds]
    for kind in kinds:
        assert shipped.networks.choose(kind, reference=False).inputs == 25
        assert shipped.networks.choose(kind, reference=True).inputs == {1: 37, 2: 39}[shipped.order]
    assert shipped.tables.groups == 4 * len(kinds) == {1: 8, 2: 12}[shipped.order]


def test_what_is_shipped():
    assert store.SHIPPED == ("fast", "normal", "max", "hierarchy-1")
    orders = [store.shipped_model(name).order for name in store.SHIPPED]
    assert orders == [Order.THREE_PASSES] * 3 + [Order.TWO_PASSES]
    cards = [store.shipped_model(name).card.architecture for name in store.SHIPPED]
    assert cards == ["hierarchy-2"] * 3 + ["hierarchy-1"]
    assert store.default_model() is store.shipped_model("normal")
    sizes = [store.shipped_model(name).networks.spatial[0].multiply_adds for name in store.SHIPPED[:3]]
    assert sizes == sorted(set(sizes)), "the more effort, the larger the network"


def test_the_model_of_version_1_is_the_one_that_was_released():
    assert store.shipped_model("hierarchy-1").digest == RELEASED


def test_a_model_is_its_bytes(shipped):
    again = Model.build(shipped.networks, shipped.tables, shipped.card)
    assert again.blob == Model.build(again.networks, again.tables, again.card).blob
    assert again.card == shipped.card
    for model in (read_model(shipped.blob), pickle.loads(pickle.dumps(shipped))):
        assert model == shipped
        assert hash(model) == hash(shipped)
    assert other_model(shipped) != shipped
    assert shipped.card.name in repr(shipped)


def test_saved_and_loaded(shipped, tmp_path):
    path = save_model(shipped, tmp_path / "m.safetensors")
    assert load_model(path) == shipped
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]
    assert load_model(str(path)).networks.spatial[0].w1.flags.c_contiguous


def test_a_card_survives_its_own_json():
    card = ModelCard("n", training_data=("a, CC-BY", "b"), training="x.py \u00e9", measured=("1.3",), parent="sha256:0")
    assert ModelCard.from_json(card.to_json()) == card
    assert ModelCard.from_json('{"name": "n"}') == ModelCard("n")
    card.to_json().encode("ascii")


# what is refused


def refused(blob, match=None):
    with pytest.raises(UntrustedModelError, match=match):
        read_model(blob)


def test_pickles_and_other_files_are_refused(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was executed",))

    archive = io.BytesIO()
    np.savez(archive, w=np.zeros(3))
    for blob in (
        pickle.dumps(Bomb()),
        archive.getvalue(),
        b"",
        b"PK\x03\x04",
        bytes(7),
        bytes(8),
        bytes(1000),
        b"\x89HDF\r\n\x1a\n" * 9,
    ):
        refused(blob)
        path = tmp_path / "m.safetensors"
        path.write_bytes(blob)
        with pytest.raises(UntrustedModelError, match=str(path)):
            load_model(path)


def test_every_truncation_and_appended_bytes_are_refused(shipped):
    for size in [*range(0, 4000, 97), *range(4000, len(shipped.blob), 1499), len(shipped.blob) - 1]:
        refused(shipped.blob[:size])
    refused(shipped.blob + b"\0")


def test_a_header_that_lies_about_its_size(shipped):
    for size in (0, 1, 2, len(shipped.blob), 2**20, 2**40, 2**63, 2**64 - 1):
        refused(struct.pack("<Q", size) + shipped.blob[8:])


def test_a_header_that_lies_about_the_data(shipped):
    def moved(header, **fields):
        header["tables"] |= fields
        return header

    end = len(shipped.blob)
    for lie in (
        {"data_offsets": [0, end]},
        {"data_offsets": [-1, 5]},
        {"data_offsets": [5, 0]},
        {"data_offsets": [0, 2**62]},
        {"data_offsets": "all"},
        {"shape": [2**40]},
        {"shape": [2**32, 2**32]},
        {"shape": [-1]},
        {"shape": []},
        {"shape": "x"},
        {"dtype": "F99"},
        {"dtype": "BF16"},
        {"dtype": "F64"},
        {"dtype": "object"},
        {"extra": 1},
    ):
        blob = with_header(shipped.blob, lambda h, lie=lie: moved(h, **lie))
        if lie != {"extra": 1}:
            refused(blob)


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000,
        b'{"a":' * 40_000,
        b"9" * 200_000,
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"{}",
        b'{"__metadata__": null}',
        b"\xff\xfe\x00",
        b'{"__metadata__": []}',
        b'{"__metadata__": {}}',
        b'{"__metadata__": "latentzarr.card"}',
    ],
    ids=lambda t: repr(t[:20]),
)
def test_headers_that_are_no_headers(shipped, text):
    refused(with_header(shipped.blob, lambda h: text))


@pytest.mark.parametrize("card", [None, 5, [], ["{}"], {"name": "x"}, True])
def test_a_card_that_is_no_text(shipped, card):
    def changed(header):
        header["__metadata__"][KEY] = card
        return header

    refused(with_header(shipped.blob, changed))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "[]",
        "5",
        '"name"',
        "{}",
        '{"name": 5}',
        '{"name": null}',
        '{"name": "a", "surprise": 1}',
        '{"name": "a", "measured": "b"}',
        '{"name": "a", "measured": [1]}',
        '{"name": "a", "architecture": "hierarchy-3"}',
        '{"name": "a", "architecture": "hierarchy"}',
        '{"name": "a", "architecture": 2}',
        '{"name": "a", "training_data": {}}',
        "[" * 60_000,
        '{"a":' * 10_000,
        '{"name": ' + "9" * 50_000 + "}",
        '{"name": "' + "a" * 70_000 + '"}',
        '{"name": NaN}',
    ],
    ids=lambda t: repr(t[:40]),
)
def test_cards_that_are_no_cards(shipped, text):
    refused(blob_of(shipped, card=text))


def test_a_file_without_a_card(shipped):
    refused(safetensors.numpy.save(arrays_of(shipped)), "no model card")
    refused(safetensors.numpy.save(arrays_of(shipped), metadata={"card": "x"}), "no model card")


def test_later_architectures_say_so(shipped):
    card = replace(shipped.card, architecture="hierarchy-9").to_json()
    refused(blob_of(shipped, card=card), "hierarchy-9.*newer")


def test_wrong_names(shipped):
    refused(blob_of(shipped, **{"rows.w1": None}), r"rows\.w1")
    refused(blob_of(shipped, **{"rows.w4": np.zeros(3, np.int16)}), r"rows\.w4")
    refused(blob_of(shipped, **{"../../etc": np.zeros(3, np.int16)}))
    refused(blob_of(shipped, tables=None), "tables")


@pytest.mark.parametrize("name", ["w1", "b1", "w2", "b2", "w3", "b3"])
@pytest.mark.parametrize("network", ["rows", "columns_reference", "crossings"])
def test_wrong_shapes_and_dtypes(shipped, network, name):
    if network == "crossings" and shipped.order is Order.TWO_PASSES:
        network = "columns"
    key = f"{network}.{name}"
    array = arrays_of(shipped)[key]
    refused(blob_of(shipped, **{key: array.reshape(-1, 1)}))
    refused(blob_of(shipped, **{key: array[:-1]}))
    refused(blob_of(shipped, **{key: np.concatenate([array, array])}))
    refused(blob_of(shipped, **{key: array[:0]}))
    refused(blob_of(shipped, **{key: np.zeros((), array.dtype)}))
    for dtype in (np.int8, np.int64, np.float32, np.uint16, np.bool_):
        refused(blob_of(shipped, **{key: array.astype(dtype)}))


def test_networks_in_the_wrong_place(shipped):
    spatial, reference = shipped.networks.spatial, shipped.networks.reference
    for wrong in ((reference, spatial), ((reference[0], *spatial[1:]), reference), (spatial, (*reference[:-1], spatial[-1]))):
        with pytest.raises(UntrustedModelError, match="inputs"):
            NetworkSet(*wrong)


@pytest.mark.parametrize("counts", [(0, 0), (1, 1), (4, 4), (2, 3), (3, 2)])
def test_a_number_of_networks_that_no_order_has(shipped, counts):
    with pytest.raises(UntrustedModelError, match="2 or 3 networks"):
        NetworkSet(
            4 * shipped.networks.spatial[:1] if counts[0] == 4 else (3 * shipped.networks.spatial)[: counts[0]],
            4 * shipped.networks.reference[:1] if counts[1] == 4 else (3 * shipped.networks.reference)[: counts[1]],
        )


def test_a_model_of_one_order_is_none_of_the_other(shipped):
    """Neither the card nor the arrays alone make the order: all must agree."""
    other = {Order.TWO_PASSES: "hierarchy-2", Order.THREE_PASSES: "hierarchy-1"}[shipped.order]
    refused(blob_of(shipped, card=replace(shipped.card, architecture=other).to_json()), "crossings")
    arrays = arrays_of(shipped)
    if shipped.order is Order.THREE_PASSES:
        refused(blob_of(shipped, **{name: None for name in arrays if name.startswith("crossings")}), "crossings")
        refused(blob_of(shipped, tables=arrays["tables"][:512]), "12 groups")
    else:
        refused(blob_of(shipped, **{f"crossings.{name}": arrays[f"rows.{name}"] for name in PARTS}), "crossings")
        refused(blob_of(shipped, tables=np.concatenate([arrays["tables"], arrays["tables"][:256]])), "8 groups")


@pytest.mark.parametrize("order", Order)
def test_models_of_either_order_go_there_and_back(order):
    networks = any_networks(order)
    tables = FrequencyTables.from_costs(np.tile(fixed_tables().costs, (4 * order.kinds, 1)))
    model = Model.build(networks, tables, ModelCard("any", architecture="hierarchy-1"))
    assert model.order is order
    assert model.card.architecture == f"hierarchy-{order}"
    again = read_model(model.blob)
    for kind in list(PassKind)[: order.kinds]:
        for reference in (False, True):
            was, found = networks.choose(kind, reference=reference), again.networks.choose(kind, reference=reference)
            assert all((getattr(was, part) == getattr(found, part)).all() for part in PARTS)
    for other in {1, 8, 12, 16} - {4 * order.kinds}:
        wrong = FrequencyTables.from_costs(np.tile(fixed_tables().costs, (other, 1)))
        with pytest.raises(UntrustedModelError, match=f"{4 * order.kinds} groups"):
            Model.build(networks, wrong, ModelCard("any"))


def any_networks(order, first=8, second=16):
    """Small networks of an order, each unlike the others."""
    rng = np.random.default_rng(int(order))

    def network(inputs):
        w1, w2, w3 = (rng.integers(-9, 10, shape).astype(np.int16) for shape in ((first, inputs), (second, first), (2, second)))
        b1, b2, b3 = (rng.integers(-999, 999, shape).astype(np.int32) for shape in ((12, first), (second,), (12, 2)))
        return IntegerNetwork(w1, b1, w2, b2, w3, b3)

    inputs = {Order.TWO_PASSES: 37, Order.THREE_PASSES: 39}[order]
    return NetworkSet(*(tuple(network(n) for _ in range(order.kinds)) for n in (25, inputs)))


def test_references_of_the_other_order_are_refused():
    first, second = any_networks(Order.TWO_PASSES), any_networks(Order.THREE_PASSES)
    with pytest.raises(UntrustedModelError, match="39 inputs, expected 37"):
        NetworkSet(first.spatial, second.reference[:2])
    with pytest.raises(UntrustedModelError, match="37 inputs, expected 39"):
        NetworkSet(second.spatial, (*first.reference, second.reference[2]))


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_weights_that_could_overflow_the_accumulator(shipped, layer):
    key = f"rows.w{layer}"
    wide = np.full_like(arrays_of(shipped)[key], 32767)
    refused(blob_of(shipped, **{key: wide}), "2\\*\\*24")
    refused(blob_of(shipped, **{key: -wide}), "2\\*\\*24")
    bias = arrays_of(shipped)[f"rows.b{layer}"].copy()
    for value in (ACCUMULATOR_LIMIT, -(2**31), 2**31 - 1):
        bias.reshape(-1)[-1] = value
        refused(blob_of(shipped, **{f"rows.b{layer}": bias}), "2\\*\\*24")


def test_the_limit_is_exact(shipped):
    network = shipped.networks.spatial[0]
    w1, b1 = np.zeros_like(network.w1), np.zeros_like(network.b1)
    w1[0, :10] = 1000
    b1[0, 0] = ACCUMULATOR_LIMIT - 1 - 10_000 * INPUT_TOP
    assert replace(network, w1=w1, b1=b1).hidden == network.hidden
    b1[0, 0] += 1
    with pytest.raises(UntrustedModelError):
        replace(network, w1=w1, b1=b1)


def test_tables_that_are_none(shipped):
    tables = arrays_of(shipped)["tables"]
    for bad in (tables[:-1], tables.astype(np.int16), tables.reshape(-1), np.full_like(tables, 255)):
        refused(blob_of(shipped, tables=bad))


def test_too_large(shipped, tmp_path):
    refused(bytes(MAX_MODEL_BYTES + 1), "at most")
    path = tmp_path / "big.safetensors"
    with path.open("wb") as f:
        f.truncate(2**33)  # sparse; must be refused before it is read
    with pytest.raises(UntrustedModelError, match="at most"):
        load_model(path)


def test_digests_are_compared(shipped):
    assert read_model(shipped.blob, shipped.digest) == shipped
    wrong = "sha256:" + "0" * 64
    with pytest.raises(ModelMismatchError, match=f"{shipped.digest}.*{wrong}"):
        read_model(shipped.blob, wrong)


def test_one_flipped_bit_is_another_model_or_none(shipped):
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(shipped.blob), 60):
        blob = bytearray(shipped.blob)
        blob[at] ^= 1 << int(rng.integers(0, 8))
        try:
            model = read_model(bytes(blob))
        except UntrustedModelError:
            continue
        assert model != shipped


# where models are found


def test_the_shipped_model_is_found_by_whole_and_short_digest(shipped, places):
    assert store.find_model(shipped.digest) is shipped
    assert store.find_model(shipped.digest[7:23]) is shipped
    assert store.find_model(shipped.digest[7:15]) is shipped
    assert store.find_model(shipped.prefix.hex()) is shipped


def test_a_model_is_found_in_the_order_of_the_places(shipped, places):
    first, second, cache = places
    model = other_model(shipped)
    name = f"{model.digest[7:]}.safetensors"
    for place in (cache, second, first):
        place.mkdir(parents=True, exist_ok=True)
        save_model(model, place / name)
        store._registered.clear()
        assert store.find_model(model.digest) == model
        assert store.find_model(model.prefix.hex()) == model
    assert store.search_path() == [first, second, cache]


def test_an_installed_model_is_found_by_the_next_process(shipped, places):
    model = other_model(shipped)
    path = store.install_model(model)
    assert path.parent == places[2]
    store._registered.clear()
    assert store.find_model(model.digest) == model
    assert (model.digest, "package") not in [(m.digest, where) for m, where in store.known_models()]
    ours = {store.shipped_model(name).digest for name in store.SHIPPED}
    assert {m.digest for m, _ in store.known_models()} == {*ours, model.digest}
    assert {m.digest for m, where in store.known_models() if where == "package"} == ours


def test_a_registered_model_is_found(shipped, places):
    model = store.register_model(other_model(shipped))
    assert store.find_model(model.digest) is model
    assert ("this process") in [where for m, where in store.known_models() if m == model]


def test_a_missing_model_names_digest_places_and_the_way_out(places):
    digest = "sha256:" + "ab" * 32
    with pytest.raises(ModelNotFoundError) as caught:
        store.find_model(digest)
    text = str(caught.value)
    for part in (
        digest,
        "this process",
        "installed package",
        *map(str, places),
        "latentzarr models add",
        "LATENTZARR_MODEL_PATH",
    ):
        assert part in text


@pytest.mark.parametrize(
    "digest",
    ["", "sha256:", "default", "0123456", "../../../../etc/passwd", "*" * 16, "ABCDEF0123456789", "0" * 15 + "?"],
)
def test_what_is_no_digest_is_never_looked_up(places, digest):
    with pytest.raises(ModelNotFoundError, match="not a model digest"):
        store.find_model(digest)


def test_a_file_under_a_wrong_name_is_not_taken(shipped, places):
    wanted = "cd" * 32
    path = save_model(shipped, places[0] / f"{wanted}.safetensors")
    with pytest.raises(UntrustedModelError, match=str(path)):
        store.find_model(wanted)
    path.write_bytes(pickle.dumps({"w": 1}))
    with pytest.raises(UntrustedModelError, match=str(path)):
        store.find_model(wanted)


def test_the_cache_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("LATENTZARR_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert store.cache_directory() == tmp_path / "latentzarr"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert store.cache_directory() == tmp_path / "home" / ".cache" / "latentzarr"
    monkeypatch.setenv("LATENTZARR_CACHE", str(tmp_path / "c"))
    assert store.cache_directory() == tmp_path / "c"


def test_places_that_do_not_exist_are_passed_over(shipped, monkeypatch, tmp_path):
    monkeypatch.setenv("LATENTZARR_MODEL_PATH", f"{tmp_path / 'nowhere'}::")
    monkeypatch.setenv("LATENTZARR_CACHE", str(tmp_path / "none"))
    with pytest.raises(ModelNotFoundError):
        store.find_model("ef" * 32)
