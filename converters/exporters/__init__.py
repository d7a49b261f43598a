"""One file per format.

A third party adds a format through the entry-point group `burnish.exporters`.
"""

from runtimes.registry import Registry

EXPORTERS = Registry(
    "format",
    "burnish.exporters",
    {
        "torchscript": "converters.exporters.torch.torchscript:TorchScriptExporter",
        "torch-export": "converters.exporters.torch.torch_export:TorchExportExporter",
        "aot-inductor": "converters.exporters.torch.aot_inductor:AotInductorExporter",
        "onnx": "converters.exporters.onnx.onnx:OnnxExporter",
        "openvino": "converters.exporters.openvino:OpenVinoExporter",
        "tensorrt": "converters.exporters.tensorrt.tensorrt:TensorRtExporter",
        "torch-tensorrt": "converters.exporters.tensorrt.torch_tensorrt:TorchTensorRtExporter",
    },
)
