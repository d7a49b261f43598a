"""Train fashion_cnn.safetensors, and write calibration.npz and evaluation.npz, in some minutes.

python configs/fashion_cnn/train.py data/FashionMNIST/raw    # data.py names their source
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from data import arrays
from net import build
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

HERE = Path(__file__).parent
BATCH = 256
SHIFT = 2  # pixels that a training picture moves at most, each way
CALIBRATION, EVALUATION = 256, 1000  # pictures committed beside the recipe


def augment(images: torch.Tensor) -> torch.Tensor:
    """Mirror and shift pictures at random, by up to SHIFT pixels; uint8 [N, 1, H, W] in and out."""
    count, height, width = len(images), images.shape[2], images.shape[3]
    padded = functional.pad(images, [SHIFT] * 4)[:, 0]
    rows = torch.arange(height) + torch.randint(2 * SHIFT + 1, (count, 1))
    columns = torch.arange(width) + torch.randint(2 * SHIFT + 1, (count, 1))
    columns = torch.where(torch.rand(count, 1) < 0.5, columns, columns.flip(1))
    return padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]][
        :, None
    ]


def train(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, epochs: int) -> None:
    """Train by SGD with a one-cycle learning rate, in bfloat16 autocast, which halves the time."""
    steps = len(images) // BATCH
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.2, total_steps=epochs * steps, pct_start=0.2, final_div_factor=1000
    )
    model.train()
    for epoch in range(epochs):
        start, total = time.perf_counter(), 0.0
        for rows in torch.randperm(len(images)).split(BATCH)[:steps]:
            batch = augment(images[rows]).float().contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(batch).float()
                loss = functional.cross_entropy(logits, labels[rows], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        seconds = time.perf_counter() - start
        print(f"epoch {epoch + 1}: loss {total / steps:.3f}, {seconds:.0f} s", flush=True)


def count_correct(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> int:
    """Return the number of pictures that the model, in float32, classifies correctly."""
    model.eval()
    with torch.inference_mode():
        classes = torch.cat([model(batch.float()).argmax(1) for batch in images.split(500)])
    return int((classes == labels).sum())


def tensors(folder: str, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = arrays(folder, split)
    return torch.from_numpy(images.copy()), torch.from_numpy(labels.astype(np.int64))


def save_samples(folder: str, split: str, count: int, path: Path) -> None:
    images, labels = arrays(folder, split)
    np.savez_compressed(path, image=images[:count], label=labels[:count])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="of the four files of Fashion-MNIST")
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    torch.manual_seed(0)
    model = build().to(memory_format=torch.channels_last)
    start, cpu = time.perf_counter(), time.process_time()
    train(model, *tensors(options.folder, "train"), options.epochs)
    print(f"{time.perf_counter() - start:.0f} s, {time.process_time() - cpu:.0f} s of CPU time")
    test = tensors(options.folder, "test")
    count = count_correct(model, *test)
    print(f"{count} of {len(test[0])} test pictures: {count / len(test[0]):.2%}")
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, HERE / "fashion_cnn.safetensors")
    save_samples(options.folder, "train", CALIBRATION, HERE / "calibration.npz")
    save_samples(options.folder, "test", EVALUATION, HERE / "evaluation.npz")


if __name__ == "__main__":
    main()
