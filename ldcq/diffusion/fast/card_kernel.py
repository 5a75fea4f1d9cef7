"""The reverse loop on a GPU as one Triton kernel: a tile of rows keeps its latents in registers
over all steps, and the network's matrices in 16 bit stay in shared memory.

All rows of a tile are of one state, so their condition is a vector. Rows never meet: what becomes
of one depends on its seed, its number within the call and its state alone.

Matrices are (inputs, outputs), filled up with zeros to `card_network.card_width`. An integer
argument that is 1 or a multiple of 16 would be compiled in, so those that vary are named in
`UNSPECIALISED`.
"""

# Triton reads these functions' source: annotations say what is known when it compiles.

import triton
import triton.language as tl

UNSPECIALISED = ("steps", "halves", "still")
FIELDS = tl.constexpr(6)  # of a tile
EPSILON = tl.constexpr(1e-5)  # of nn.LayerNorm


@triton.jit
def _matrix(at, INPUTS: tl.constexpr, OUTPUTS: tl.constexpr):
    return tl.load(at + tl.arange(0, INPUTS)[:, None] * OUTPUTS + tl.arange(0, OUTPUTS)[None, :])


@triton.jit
def _vector(at, WIDTH: tl.constexpr):
    return tl.load(at + tl.arange(0, WIDTH))[None, :]


@triton.jit
def _product(values, matrix, PRECISION: tl.constexpr):
    return tl.dot(values.to(matrix.dtype), matrix, input_precision=PRECISION)


@triton.jit
def _scale(squares, WIDTH: tl.constexpr):
    """What LayerNorm divides by, of rows with mean zero."""
    return tl.rsqrt(tl.sum(squares, 1) / WIDTH + EPSILON)[:, None]


@triton.jit
def _gelu(x):
    return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))


@triton.jit
def _block(
    before,
    outputs,
    condition,
    table,
    matrices,
    vectors,
    FEATURES: tl.constexpr,
    BLOCKS: tl.constexpr,
    INDEX: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One residual block; `outputs` are those of the blocks before it."""
    INPUTS: tl.constexpr = BLOCKS[INDEX][0]
    WIDTH: tl.constexpr = BLOCKS[INDEX][1]
    TRUE: tl.constexpr = BLOCKS[INDEX][2]
    SKIP: tl.constexpr = BLOCKS[INDEX][3]
    FOLDED: tl.constexpr = BLOCKS[INDEX][4]
    PLACE: tl.constexpr = BLOCKS[INDEX][7]
    ENTRY: tl.constexpr = INPUTS if FOLDED else WIDTH
    matrix = matrices + BLOCKS[INDEX][5]
    vector = vectors + BLOCKS[INDEX][6]
    joined = before
    if INPUTS > 0:
        joined = _product(before, _matrix(matrix, INPUTS, WIDTH), PRECISION)
        joined += _vector(vector, WIDTH)
        matrix += INPUTS * WIDTH
    if SKIP >= 0:
        joined += outputs[SKIP]
    entry = before if FOLDED else joined
    hidden = _product(entry, _matrix(matrix, ENTRY, WIDTH), PRECISION)
    hidden += _vector(condition + PLACE, WIDTH)
    hidden *= _scale(hidden * hidden, TRUE) * _vector(table + PLACE, WIDTH)
    hidden = _gelu(hidden + _vector(table + FEATURES + PLACE, WIDTH))
    second = _matrix(matrix + ENTRY * WIDTH, WIDTH, WIDTH)
    hidden = _product(hidden, second, PRECISION) + _vector(vector + WIDTH, WIDTH)
    hidden *= _scale(hidden * hidden, TRUE) * _vector(vector + 2 * WIDTH, WIDTH)
    return joined + hidden + _vector(vector + 3 * WIDTH, WIDTH)


@triton.jit
def _predict(
    latent,
    condition,
    table,
    matrices,
    vectors,
    FEATURES: tl.constexpr,
    BLOCKS: tl.constexpr,
    LAST: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """z0_hat of a tile. `table` is the row of this t: all blocks' gains, then their biases."""
    before = latent
    outputs = ()
    for index in tl.static_range(len(BLOCKS)):
        before = _block(
            before, outputs, condition, table, matrices, vectors, FEATURES, BLOCKS, index, PRECISION
        )
        outputs = outputs + (before,)  # noqa: RUF005 - Triton knows no stars
    WIDTH: tl.constexpr = LAST[0]
    TRUE: tl.constexpr = LAST[1]
    LATENT: tl.constexpr = LAST[2]
    centred = before - (tl.sum(before, 1) / TRUE)[:, None]
    centred = tl.where(tl.arange(0, WIDTH)[None, :] < TRUE, centred, 0.0)
    centred *= _scale(centred * centred, TRUE)
    last = _matrix(matrices + LAST[3], WIDTH, LATENT)
    return _product(centred, last, PRECISION) + _vector(vectors + LAST[4], LATENT)


@triton.jit
def _noise(seed, rows, draw, ROWS: tl.constexpr, LATENT: tl.constexpr):
    """N(0, I) of a tile, as `ldcq.philox.normals`: the pair of two columns shares its words."""
    zero = tl.zeros((ROWS, LATENT // 2), tl.uint32)
    pair = tl.arange(0, LATENT // 2)[None, :].to(tl.uint32) + zero
    row = rows[:, None].to(tl.uint32) + zero
    first, second, _, _ = tl.philox(seed, row, pair, draw.to(tl.uint32) + zero, zero)
    cosine, sine = tl.pair_uniform_to_normal(
        tl.uint_to_uniform_float(first), tl.uint_to_uniform_float(second)
    )
    return tl.interleave(cosine, sine)


@triton.jit(do_not_specialize=UNSPECIALISED)
def reverse_loop(
    out,
    tiles,
    conditions,
    matrices,
    vectors,
    tables,
    times,
    coefficients,
    steps,
    halves,
    still,
    guidance,
    temperature,
    clip,
    BLOCKS: tl.constexpr,
    LAST: tl.constexpr,
    FEATURES: tl.constexpr,
    Z: tl.constexpr,
    ROWS: tl.constexpr,
    KEPT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """All steps of a tile of rows.

    out: (R, Z). tiles: of each program the seed, the state, the number of the tile's first row
    within the call, from which to which of its rows are asked for, and which row of `out` the
    first one would be, int64. conditions: (N, halves, FEATURES), with
    two halves the unconditional one last. times: of each step the row of `tables`, and how often
    noise was drawn before. coefficients: of each step those of z, z0_hat, z0_hat before and the
    noise. still: 0; a load whose address depends on it stays in the loop. KEPT: matrices are loaded
    before the loop.
    """
    tile = tiles + tl.program_id(0) * FIELDS
    seed, first = tl.load(tile), tl.load(tile + 2).to(tl.int32)
    LATENT: tl.constexpr = LAST[2]
    rows = tl.arange(0, ROWS)
    conditions += tl.load(tile + 1) * halves * FEATURES
    latent = _noise(seed, first + rows, tl.load(times) * 0, ROWS, LATENT) * temperature
    before = latent
    for step in range(steps):
        table = tables + tl.load(times + 2 * step) * (2 * FEATURES)
        clean = tl.zeros((ROWS, LATENT), tl.float32)
        for half in range(halves):
            moved = (step + half) * still
            predicted = _predict(
                latent,
                conditions + half * FEATURES,
                table + moved,
                matrices if KEPT else matrices + moved,
                vectors + moved,
                FEATURES,
                BLOCKS,
                LAST,
                PRECISION,
            )
            clean += predicted * tl.where(half == 0, guidance, 1.0 - guidance)
        clean = tl.minimum(tl.maximum(clean, -clip), clip)
        at = coefficients + 4 * step
        latent = latent * tl.load(at) + clean * tl.load(at + 1) + before * tl.load(at + 2)
        scale = tl.load(at + 3)
        if scale != 0.0:
            draw = tl.load(times + 2 * step + 1)
            latent += _noise(seed, first + rows, draw, ROWS, LATENT) * scale
        before = clean
    begin, end, place = tl.load(tile + 3), tl.load(tile + 4), tl.load(tile + 5)
    columns = tl.arange(0, LATENT)
    inside = ((rows >= begin) & (rows < end))[:, None] & (columns < Z)[None, :]
    tl.store(out + (place + rows)[:, None] * Z + columns[None, :], latent, mask=inside)
