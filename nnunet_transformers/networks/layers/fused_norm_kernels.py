"""The Triton kernels of `fused_norm`; a module of its own because importing it takes Triton.

All work on rows: a contiguous map (B, C, *spatial) as (B * C, n), the sums of a row in chunks.
No annotation is a string: Triton 3.0's interpreter would not know a constexpr.
"""

import triton
import triton.language as tl


@triton.jit
def moments(x, means, squares, n, n_chunks, CHUNK: tl.constexpr, BLOCK: tl.constexpr):
    """Mean of each chunk of each row and sum of squares around it (Chan et al. 1983), (rows, n_chunks)."""
    row, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    mean = tl.full([], 0.0, tl.float32)
    square = tl.full([], 0.0, tl.float32)
    count = tl.full([], 0.0, tl.float32)
    for start in range(0, CHUNK, BLOCK):
        at = chunk * CHUNK + start + tl.arange(0, BLOCK)
        inside = at < n
        value = tl.load(x + row * n + at, mask=inside, other=0.0).to(tl.float32)
        added = tl.sum(inside.to(tl.float32))
        its_mean = tl.sum(value) / tl.maximum(added, 1.0)
        centred = tl.where(inside, value - its_mean, 0.0)
        delta, total = its_mean - mean, tl.maximum(count + added, 1.0)
        square += tl.sum(centred * centred) + delta * delta * count * added / total
        mean += delta * added / total
        count += added
    tl.store(means + row * n_chunks + chunk, mean)
    tl.store(squares + row * n_chunks + chunk, square)


@triton.jit
def forward(x, y, scale, shift, n, slope, BLOCK: tl.constexpr):
    """y = act(x * scale + shift), one scale and shift per row."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    value = tl.load(x + row * n + at, mask=inside, other=0.0).to(tl.float32)
    z = value * tl.load(scale + row) + tl.load(shift + row)
    z = tl.where(z > 0, z, z * slope)
    tl.store(y + row * n + at, z.to(y.dtype.element_ty), mask=inside)


@triton.jit
def sums(
    x, grad, scale, shift, mean, of_grad, of_product, n, n_chunks, slope, CHUNK: tl.constexpr, BLOCK: tl.constexpr
):
    """Sums over each chunk of each row of the gradient before the activation, and of it times the centred x."""
    row, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    a, b, m = tl.load(scale + row), tl.load(shift + row), tl.load(mean + row)
    total = tl.full([], 0.0, tl.float32)
    product = tl.full([], 0.0, tl.float32)
    for start in range(0, CHUNK, BLOCK):
        at = chunk * CHUNK + start + tl.arange(0, BLOCK)
        inside = at < n
        value = tl.load(x + row * n + at, mask=inside, other=0.0).to(tl.float32)
        g = tl.load(grad + row * n + at, mask=inside, other=0.0).to(tl.float32)
        g = tl.where(value * a + b > 0, g, g * slope)
        total += tl.sum(g)
        product += tl.sum(g * tl.where(inside, value - m, 0.0))
    tl.store(of_grad + row * n_chunks + chunk, total)
    tl.store(of_product + row * n_chunks + chunk, product)


@triton.jit
def backward(x, grad, grad_x, scale, shift, of_x, of_one, n, slope, BLOCK: tl.constexpr):
    """grad_x = g * scale + x * of_x + of_one, with g the gradient before the activation."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    value = tl.load(x + row * n + at, mask=inside, other=0.0).to(tl.float32)
    g = tl.load(grad + row * n + at, mask=inside, other=0.0).to(tl.float32)
    a = tl.load(scale + row)
    g = tl.where(value * a + tl.load(shift + row) > 0, g, g * slope)
    result = g * a + value * tl.load(of_x + row) + tl.load(of_one + row)
    tl.store(grad_x + row * n + at, result.to(grad_x.dtype.element_ty), mask=inside)
