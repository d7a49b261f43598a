import numpy as np

from runtimes.engines.torch.inputs import to_tensors


def test_tensors_keep_names_values_and_types() -> None:
    arrays = {"ids": np.arange(3), "x": np.ones((2, 1), np.float16)}
    tensors = to_tensors(arrays)
    assert list(tensors) == ["ids", "x"]
    for name, array in arrays.items():
        assert tensors[name].numpy().dtype == array.dtype
        np.testing.assert_array_equal(tensors[name].numpy(), array)


def test_tensors_on_the_cpu_are_no_copies() -> None:
    array = np.zeros(3, np.float32)
    to_tensors({"x": array})["x"].add_(1)
    assert array.tolist() == [1, 1, 1]
