"""Engines of PyTorch: eager, TorchScript, torch.export, AOTInductor, torch-tensorrt."""
