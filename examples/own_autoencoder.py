"""How to store and open the latents of an autoencoder of my own? Register it; here a small convolutional one, trained here."""

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
import xarray as xr
from torch import nn

import latentzarr
from latentzarr.dataset.example import example_dataset

VARIABLES, STEPS, EPOCHS = ["t", "u"], 48, 40


class Encoder(nn.Module):
    """Fields (batch, 2, rows, columns) to means of 8 latents for each 8 x 8 values."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2, 24, 4, 2, 1), nn.GELU(), nn.Conv2d(24, 48, 4, 2, 1), nn.GELU(), nn.Conv2d(48, 48, 4, 2, 1), nn.GELU()
        )
        self.mean, self.log_variance = nn.Conv2d(48, 8, 1), nn.Conv2d(48, 8, 1)

    def both(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and logarithm of the variance, for training."""
        h = self.layers(x)
        return self.mean(h), self.log_variance(h)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The mean alone: what is stored."""
        return self.both(x)[0]


class Decoder(nn.Sequential):
    """And back."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(8, 48, 3, 1, 1), nn.GELU(), nn.ConvTranspose2d(48, 48, 4, 2, 1), nn.GELU(),
            nn.ConvTranspose2d(48, 24, 4, 2, 1), nn.GELU(), nn.ConvTranspose2d(24, 2, 4, 2, 1),
        )  # fmt: skip


def train(fields: torch.Tensor) -> tuple[Encoder, Decoder]:
    """A variational autoencoder of scaled fields (batch, 2, rows, columns)."""
    torch.manual_seed(0)
    encoder, decoder = Encoder(), Decoder()
    optimizer = torch.optim.AdamW([*encoder.parameters(), *decoder.parameters()], 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=EPOCHS * (len(fields) // 8))
    for epoch in range(EPOCHS):
        for batch in fields[torch.randperm(len(fields))].split(8)[: len(fields) // 8]:
            mean, log_variance = encoder.both(batch)
            sample = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
            error = (decoder(sample) - batch).square().mean()
            surprise = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
            optimizer.zero_grad()
            (error + 1e-4 * surprise).backward()
            optimizer.step()
            schedule.step()
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1}: normalised MSE {error.item():.4f}")
    return encoder, decoder


def main() -> None:
    """Train on the first steps, store all, open again, look at the last one."""
    ds = example_dataset(STEPS, 96, 144)[VARIABLES]
    learn = ds.isel(time=slice(0, 40))
    mean, std = ([float(getattr(learn[v], how)()) for v in VARIABLES] for how in ("mean", "std"))
    scaled = np.stack([(learn[v].values - m) / s for v, m, s in zip(VARIABLES, mean, std, strict=True)], axis=1)
    encoder, decoder = train(torch.from_numpy(scaled.astype("f4")))

    latentzarr.register_autoencoder(
        "example-vae",
        encoder=encoder,
        decoder=decoder,
        latent=latentzarr.LatentDescription("continuous", step=1 / 8, downscale=8),
        scaling=latentzarr.ChannelScaling(mean, std),
    )
    print(latentzarr.encode_latents(ds, "vae.zarr", "example-vae", batch=8, overwrite=True, embed=True))

    plain = xr.open_zarr("vae.zarr")  # without the package: the latents
    print("latents", dict(plain.latent.sizes), plain.latent.dtype)
    opened = xr.open_dataset("vae.zarr", engine="latentzarr", chunks={})  # with it: the variables, decoded by Dask
    print("time mean of t, decoded:", float(opened.t.mean().compute()), "original:", float(ds.t.mean()))
    latents = xr.open_dataset("vae.zarr", engine="latentzarr", decode=False)
    inputs, target = latentzarr.torch_dataset(latents, input_steps=2)[0]
    print("to learn a forecast from:", tuple(inputs.shape), "->", tuple(target.shape))

    figure, axes = plt.subplots(2, 2, figsize=(9, 6), layout="constrained")
    for row, name in zip(axes, VARIABLES, strict=True):
        limits = {"vmin": float(ds[name][-1].min()), "vmax": float(ds[name][-1].max())}
        for axis, (title, shown) in zip(row, {"original": ds, "decoded": opened}.items(), strict=True):
            image = axis.imshow(shown[name][-1].values, **limits)
            axis.set_title(f"{name}, {title}")
        figure.colorbar(image, ax=row, label=ds[name].attrs.get("units", ""))
    figure.savefig("own_autoencoder.png", dpi=80)


if __name__ == "__main__":
    main()
