"""The engines that are PyTorch: eager, TorchScript, torch.export, AOTInductor, torch-tensorrt."""
