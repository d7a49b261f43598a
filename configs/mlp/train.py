"""Train digits.safetensors on scikit-learn's handwritten digits, and write seven.npy: a minute.

pip install scikit-learn
python configs/mlp/train.py
"""

from pathlib import Path

import numpy as np
import torch
from digits import build
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HERE = Path(__file__).parent


def main() -> None:
    torch.manual_seed(0)
    pixels, labels = load_digits(return_X_y=True)
    split = train_test_split(
        pixels.astype(np.float32), labels, test_size=0.25, random_state=0, stratify=labels
    )
    train_x, test_x, train_y, test_y = map(torch.from_numpy, split)
    model = build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    for _ in range(60):
        for rows in torch.randperm(len(train_x)).split(64):
            loss = torch.nn.functional.cross_entropy(model(train_x[rows]), train_y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    accuracy = (model.eval()(test_x).argmax(1) == test_y).float().mean().item()
    print(f"{accuracy:.1%} of {len(test_x)} test digits")
    save_file(model.state_dict(), HERE / "digits.safetensors")
    np.save(HERE / "seven.npy", test_x[test_y == 7][:1].numpy())


if __name__ == "__main__":
    main()
