import numpy as np
import pytest
import torch

from nwbrnn.buffers import allocate, allocate_like, reuse_memory

SHAPE = (3, 4, 5)


def find_address(array):
    return array.ctypes.data


def make_view(array):
    return array[1:]


def make_tensor(array):
    return torch.from_numpy(array)[1:]


def make_array_of_tensor(array):
    return torch.from_numpy(array).reshape(-1).numpy()[2:]


def test_memory_is_used_again_once_nothing_refers_to_it():
    with reuse_memory():
        address = find_address(allocate(SHAPE, np.float32))
        assert find_address(allocate(SHAPE[::-1], np.float32)) == address
        kept = [allocate(SHAPE, np.float32) for _ in range(3)]
        assert len(set(map(find_address, kept))) == 3


@pytest.mark.parametrize("derive", [make_view, make_tensor, make_array_of_tensor])
def test_memory_in_use_is_given_to_nobody_else(derive):
    with reuse_memory():
        made = allocate(SHAPE, np.float64)
        made[:] = 1
        derived = derive(made)
        del made
        for _ in range(3):
            allocate(SHAPE, np.float64)[:] = 2
    assert (derived == 1).all()


def test_an_array_outlives_the_block():
    with reuse_memory():
        made = allocate(SHAPE, np.float64)
    made[:] = 1
    with reuse_memory():
        allocate(SHAPE, np.float64)[:] = 2
    assert (made == 1).all()


@pytest.mark.parametrize("shape", [(0, 3), (0,), (1,), SHAPE])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_have_the_shape_and_type_that_was_asked_for(shape, dtype):
    with reuse_memory():
        made = allocate(shape, dtype)
    assert (made.shape, made.dtype) == (shape, dtype)
    assert made.flags.c_contiguous
    assert made.flags.writeable
    assert not made.size or find_address(made) % 64 == 0


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 0, 2), (2, 0, 1)])
def test_a_layout_is_that_of_another_array(axes):
    other = np.zeros(SHAPE, np.float32).transpose(axes)
    with reuse_memory():
        made = allocate_like(other)
    assert (made.shape, made.strides, made.dtype) == (other.shape, other.strides, other.dtype)
