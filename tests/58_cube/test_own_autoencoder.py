"""Other people's autoencoders: what is accepted of them, what their latents become, and how they are found."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import made_autoencoders as made
from latentzarr import Autoencoder, ChannelScaling, LatentDescription, register_autoencoder
from latentzarr.cube.latents import LatentKind, StoredLatents, pack_signs, unpack_signs
from latentzarr.cube.registry import find_autoencoder, unregister_autoencoder
from latentzarr.errors import InvalidConfigError, ModelMismatchError, ModelNotFoundError, UntrustedModelError
from latentzarr.models.weights import array_bytes, check_weights, digest_of

RNG = np.random.default_rng(0)


@pytest.fixture
def registered():
    yield register_autoencoder(**made.continuous())
    unregister_autoencoder("toy")


def _file(tmp_path, **arrays):
    file = tmp_path / "w.safetensors"
    file.write_bytes(array_bytes(arrays))
    return file


# ------------------------------------------------------------------------------------------------------------- latents
@pytest.mark.parametrize("item", [(3, 4, 5), (4, 5), (7,)])
@pytest.mark.parametrize("dtype", ["int8", "int16", "int32"])
def test_continuous_latents_come_back_within_half_a_step(item, dtype):
    z = RNG.normal(0, 1, (6, *item)).astype("f4")
    stored = LatentDescription("continuous", step=0.05, dtype=dtype).stored(z, 8, 10)
    whole = stored.integers(z)
    assert (whole.dtype, whole.shape) == (np.dtype(dtype), z.shape)
    back = stored.values(whole)
    assert back.dtype == np.float32
    assert np.abs(back - z).max() <= 0.0251


def test_a_step_for_each_channel():
    z = np.full((1, 2, 1, 1), 0.3, "f4")
    stored = LatentDescription("continuous", step=(0.25, 0.1)).stored(z, 1, 1)
    assert stored.integers(z).ravel().tolist() == [1, 3]
    np.testing.assert_allclose(stored.values(stored.integers(z)).ravel(), [0.25, 0.3], rtol=1e-6)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("item", [(13, 2, 3), (16,), (1, 1, 1)])
def test_binary_latents_keep_their_signs(item, packed):
    z = RNG.normal(0, 1, (3, *item))
    stored = LatentDescription("binary", packed=packed).stored(z, 4, 4)
    whole = stored.integers(z)
    assert whole.shape == (3, *stored.shape)
    assert whole.nbytes == 3 * (-(-item[0] // 8) if packed else item[0]) * np.prod(item[1:], dtype=int)
    back = stored.values(whole)
    np.testing.assert_array_equal(back, np.where(z > 0, 1, -1))
    assert back.dtype == np.float32


def test_the_first_channel_is_the_lowest_bit():
    bits = np.zeros((1, 10), bool)
    bits[0, [0, 9]] = True
    assert pack_signs(bits).tolist() == [[1, 2]]
    assert unpack_signs(pack_signs(bits), 10).tolist() == [[1, *[-1] * 8, 1]]


@pytest.mark.parametrize(("given", "takes"), [("int64", "int64"), ("f4", "float32")])
def test_integer_latents_stay_what_they_are(given, takes):
    z = RNG.integers(0, 1000, (2, 3, 4)).astype(given)
    stored = LatentDescription("integer").stored(z, 3, 4)
    back = stored.values(stored.integers(z))
    np.testing.assert_array_equal(back, z)
    assert back.dtype == np.dtype(takes)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "fuzzy"}, "continuous, binary, integer"),
        ({"kind": "continuous"}, "need a step"),
        ({"kind": "binary", "step": 1}, "take no step"),
        ({"kind": "continuous", "step": 0}, "positive"),
        ({"kind": "continuous", "step": [0.1, np.nan]}, "positive"),
        ({"kind": "continuous", "step": []}, "positive"),
        ({"kind": "integer", "dtype": "int64"}, "int8, int16, int32"),
        ({"kind": "integer", "downscale": 0}, "downscale"),
        ({"kind": "integer", "downscale": (1, 2, 3)}, "downscale"),
    ],
)
def test_descriptions_that_cannot_be_meant(given, words):
    with pytest.raises(InvalidConfigError, match=words):
        LatentDescription(**given)


@pytest.mark.parametrize(
    ("description", "latents", "words"),
    [
        ({"kind": "integer"}, np.zeros((2, 1, 1, 1, 1)), "shape"),
        ({"kind": "integer"}, np.zeros(2), "shape"),
        ({"kind": "integer"}, np.zeros((2, 0)), "shape"),
        ({"kind": "integer", "downscale": 2}, np.zeros((2, 3, 4, 4)), r"gives \(4, 5\), the encoder gave \(4, 4\)"),
        ({"kind": "integer", "shape": lambda r, c: (3, r, c)}, np.zeros((2, 3, 4, 4)), "should be"),
        ({"kind": "binary"}, np.zeros((2, 4, 5)), "packed=False"),
        ({"kind": "continuous", "step": (1, 2)}, np.zeros((2, 3, 4, 5)), "2 steps"),
    ],
)
def test_latents_that_do_not_fit_their_description(description, latents, words):
    with pytest.raises(InvalidConfigError, match=words):
        LatentDescription(**description).stored(latents, 8, 10)


@pytest.mark.parametrize(
    ("latents", "words"),
    [
        (np.zeros((1, 3)), "before and"),
        (np.full((1, 2), np.nan), "not finite"),
        (np.full((1, 2), 0.5), "fractions"),
        (np.full((1, 2), 40_000), "int32"),
    ],
)
def test_latents_that_cannot_be_stored(latents, words):
    stored = LatentDescription("integer").stored(np.zeros((1, 2)), 1, 1)
    with pytest.raises(InvalidConfigError, match=words):
        stored.integers(latents)


def test_foreign_descriptions_are_checked():
    with pytest.raises(InvalidConfigError, match="sound"):
        StoredLatents(LatentKind.BINARY, (0, 2), "uint8", "float32", None, False)
    with pytest.raises(InvalidConfigError, match="sound"):
        StoredLatents(LatentKind.CONTINUOUS, (2,), "object", "float32", (1.0,), False)


@pytest.mark.parametrize("numbers", [{"mean": 0, "std": 0}, {"mean": np.nan, "std": 1}, {"mean": [], "std": 1}])
def test_scalings_that_cannot_be_meant(numbers):
    with pytest.raises(InvalidConfigError, match="finite"):
        ChannelScaling(**numbers)


def test_a_scaling_is_for_one_or_all_channels():
    assert ChannelScaling(1, 2).of(3)[1].tolist() == [2, 2, 2]
    with pytest.raises(InvalidConfigError, match="2 channels, the data have 3"):
        ChannelScaling([1, 2], 2).of(3)


# ------------------------------------------------------------------------------------------------------- registration
def test_is_found_by_its_name(registered):
    assert find_autoencoder("toy") is registered
    assert find_autoencoder("toy", registered.digest) is registered
    with pytest.raises(ModelMismatchError, match=r"in\.zarr: .*sha256:00.*sha256:"):
        find_autoencoder("toy", "sha256:00", "in.zarr")
    again = register_autoencoder(**made.continuous(weights=None))
    assert find_autoencoder("toy") is again
    assert again.digest is None
    with pytest.raises(ModelMismatchError, match="no weights"):
        find_autoencoder("toy", registered.digest)


def test_what_is_not_known_says_what_to_do():
    with pytest.raises(ModelNotFoundError, match=r"register_autoencoder\('nobody'.*latentzarr.autoencoders.*decode=False"):
        find_autoencoder("nobody")


@pytest.mark.parametrize(
    ("target", "words"),
    [("offered", None), ("fields", "a Dataset"), ("STEP", "a float"), ("other", "'offered'")],
)
def test_entry_points(tmp_path, monkeypatch, target, words):
    folder = tmp_path / "offering-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: offering\nVersion: 1\n")
    name, found = ("other", "offered") if target == "other" else ("offered", target)
    (folder / "entry_points.txt").write_text(f"[latentzarr.autoencoders]\n{name} = made_autoencoders:{found}\n")
    monkeypatch.syspath_prepend(tmp_path)
    if words is None:
        assert find_autoencoder(name) is find_autoencoder(name)
    else:
        with pytest.raises(InvalidConfigError, match=words):
            find_autoencoder(name)
    unregister_autoencoder(name)


@pytest.mark.parametrize("wrong", [{"encoder": 1}, {"decoder": None}, {"name": ""}, {"name": "n" * 300}])
def test_what_cannot_be_registered(wrong):
    with pytest.raises(InvalidConfigError):
        register_autoencoder(**made.continuous() | wrong)


def test_weights_have_one_digest_in_every_form(tmp_path):
    file = _file(tmp_path, **made.WEIGHTS)
    forms = [made.WEIGHTS, file, str(file), file.read_bytes()]
    digests = {Autoencoder.build(**made.continuous(weights=form)).digest for form in forms}
    assert digests == {digest_of(file.read_bytes())}


@pytest.mark.parametrize(
    "blob", [b"", b"short", b"\xff" * 64, (2).to_bytes(8, "little") + b"[]", (9).to_bytes(8, "little") + b'{"a": 1 }']
)
def test_weights_that_are_none(blob):
    with pytest.raises(UntrustedModelError, match="safetensors"):
        Autoencoder.build(**made.continuous(weights=blob))


def test_weights_with_too_much_or_another_digest():
    with pytest.raises(UntrustedModelError, match="512"):
        check_weights(array_bytes({"n" * 513: np.zeros(1)}))
    with pytest.raises(ModelMismatchError, match="sha256"):
        check_weights(array_bytes(made.WEIGHTS), expected="sha256:00")
    assert check_weights(array_bytes(made.WEIGHTS)) == {"weight": (4,)}


# ------------------------------------------------------------------------------------------------------------- running
@pytest.mark.parametrize(
    "answer",
    [lambda x: (x, x, x), lambda x: x[:1], lambda x: np.float32(1), lambda x: x.astype("U1"), lambda x: [x, x[:1]]],
)
def test_encoders_that_give_something_else(answer):
    broken = Autoencoder.build(**made.continuous() | {"encoder": answer})
    with pytest.raises((InvalidConfigError, ValueError)):
        broken.to_latents(np.zeros((2, 3, 4, 4), "f4"))


def test_decoders_that_give_something_else():
    broken = Autoencoder.build(**made.continuous(decoder=lambda z: z))
    with pytest.raises(InvalidConfigError, match=r"'toy'.*\(2, 3, 2, 2\).*not fields of \(2, 3, 4, 4\)"):
        broken.to_fields(np.zeros((2, 3, 2, 2), "f4"), (3, 4, 4))


def test_functions_of_arrays_run_on_the_cpu_alone(registered):
    with pytest.raises(InvalidConfigError, match="cuda"):
        registered.to_latents(np.zeros((1, 1, 2, 2), "f4"), "cuda")


def test_registering_loads_no_torch():
    import subprocess

    code = (
        "import sys, made_autoencoders as made, latentzarr; latentzarr.register_autoencoder(**made.continuous());"
        "print('torch' in sys.modules)"
    )
    env_path = ":".join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": env_path, "PATH": ""}
    )
    assert done.stdout.strip() == "False"


# --------------------------------------------------------------------------------------------------------------- torch
def _modules(seed=0):
    torch = pytest.importorskip("torch")
    torch.manual_seed(seed)
    encoder = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 2, stride=2), torch.nn.Dropout(0.5))
    decoder = torch.nn.ConvTranspose2d(4, 2, 2, stride=2)
    return torch, encoder, decoder


def _torch_autoencoder(encoder, decoder, **more):
    given = {"latent": LatentDescription("continuous", step=0.1), **more}
    return Autoencoder.build("net", encoder=encoder, decoder=decoder, **given)


@pytest.mark.torch
def test_modules_are_copied_as_they_are():
    torch, encoder, decoder = _modules()
    made_of = _torch_autoencoder(encoder, decoder)
    x = RNG.normal(0, 1, (3, 2, 4, 6)).astype("f4")
    before = made_of.to_latents(x)
    assert encoder.training
    with torch.no_grad():
        encoder[0].weight.zero_()
    np.testing.assert_array_equal(made_of.to_latents(x), before)  # no dropout either
    assert made_of.to_fields(before, (2, 4, 6)).dtype == np.float32
    names = set(check_weights(made_of.weights))
    assert names == {"encoder.0.weight", "encoder.0.bias", "decoder.weight", "decoder.bias"}
    assert _torch_autoencoder(encoder, decoder).digest != made_of.digest


@pytest.mark.torch
def test_weights_are_loaded_into_modules(tmp_path):
    _, *trained = _modules(1)
    _, *fresh = _modules(2)
    first = _torch_autoencoder(*trained)
    file = tmp_path / "w.safetensors"
    file.write_bytes(first.weights)
    second = _torch_autoencoder(*fresh, weights=file)
    assert second.digest == first.digest != _torch_autoencoder(*fresh).digest
    x = RNG.normal(0, 1, (3, 2, 4, 6)).astype("f4")
    np.testing.assert_array_equal(first.to_latents(x), second.to_latents(x))
    with pytest.raises(UntrustedModelError, match=r"decoder\.bias"):
        _torch_autoencoder(*fresh, weights={"encoder.0.weight": np.zeros(1, "f4")})


@pytest.mark.torch
def test_methods_of_one_module_and_functions_of_tensors():
    torch, encoder, decoder = _modules()

    class Both(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.e, self.d = encoder, decoder

        def encode(self, x):
            return self.e(x)

        def decode(self, z):
            return self.d(z)

    whole = Both()
    x = RNG.normal(0, 1, (1, 2, 4, 4)).astype("f4")
    parts = _torch_autoencoder(encoder, decoder)
    methods = _torch_autoencoder(whole.encode, whole.decode)
    assert set(check_weights(methods.weights)) == {"e.0.weight", "e.0.bias", "d.weight", "d.bias"}
    np.testing.assert_array_equal(methods.to_latents(x), parts.to_latents(x))
    functions = _torch_autoencoder(torch.relu, lambda t: t * 2, tensors=True)
    assert functions.digest is None
    np.testing.assert_array_equal(functions.to_fields(x, x.shape[1:]), 2 * x)
    given = []
    mixed = _torch_autoencoder(encoder, lambda t: given.append(type(t)) or t)
    mixed.to_fields(x, x.shape[1:])
    assert given == [torch.Tensor]


@pytest.mark.torch
def test_modules_that_give_several_tensors_and_devices_that_are_not_there():
    torch, encoder, decoder = _modules()
    several = _torch_autoencoder(lambda x: (encoder(x), 1), decoder)
    with pytest.raises(InvalidConfigError, match=r"tuple.*mean"):
        several.to_latents(np.zeros((1, 2, 4, 4), "f4"))
    if not torch.cuda.is_available():
        with pytest.raises(InvalidConfigError, match=r"'cuda'.*no GPU"):
            _torch_autoencoder(encoder, decoder).to_latents(np.zeros((1, 2, 4, 4), "f4"), "cuda")


@pytest.mark.torch
def test_the_gpu_gives_nearly_the_same():
    torch, encoder, decoder = _modules()
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    x = RNG.normal(0, 1, (3, 2, 4, 6)).astype("f4")
    both = [_torch_autoencoder(encoder, decoder).to_latents(x, device) for device in ("cpu", "cuda")]
    np.testing.assert_allclose(*both, atol=1e-2)
