"""PyTorch's own formats: TorchScript, torch.export, AOTInductor."""
