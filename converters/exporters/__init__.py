"""One file per format. A third party adds a format through the entry-point group `burnish.exporters`."""

from runtimes.registry import Registry

EXPORTERS = Registry(
    "format",
    "burnish.exporters",
    {
        "torchscript": "converters.exporters.torchscript:TorchScriptExporter",
        "torch-export": "converters.exporters.torch_export:TorchExportExporter",
        "aot-inductor": "converters.exporters.aot_inductor:AotInductorExporter",
        "onnx": "converters.exporters.onnx:OnnxExporter",
        "openvino": "converters.exporters.openvino:OpenVinoExporter",
        "tensorrt": "converters.exporters.tensorrt:TensorRtExporter",
        "torch-tensorrt": "converters.exporters.torch_tensorrt:TorchTensorRtExporter",
    },
)
