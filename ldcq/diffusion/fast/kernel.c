/* The denoiser's forward pass for sampling: all layers of a tile of rows while they are in cache.

   Layout: an activation is (features, TILE), the rows side by side, so that every operation on a
   feature is one on whole vectors, LayerNorm's sums over features included. Rows never meet: a
   row's result depends neither on the others nor on its place among them.

   `fused.py` prepares the weights: the first and second layer of a block are centred over their
   outputs, so what LayerNorm subtracts is zero already and only the scale is left to compute. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TILE = 32, GROUP = 4, SPAN = 2 };

#if defined(__AVX512F__)
enum { LANES = 16 };
#elif defined(__AVX__)
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif
typedef float lanes __attribute__((vector_size(4 * LANES)));

static const float EPSILON = 1e-5f; /* of nn.LayerNorm */

/* Widths count features, `padded` ones up to a multiple of GROUP (zeros in all weights). Matrices
   are in groups of GROUP outputs, each (inputs, GROUP). */
typedef struct {
    int inputs;              /* of the resizing layer; 0: there is none */
    int width, padded, skip; /* skip: the earlier block whose output is added; -1: none */
    int folded;              /* 1: `first` takes the resizing layer's input */
    const float *resize, *resize_bias, *first, *second, *second_bias, *norm_gain, *norm_bias;
    const float *gain, *bias; /* FiLM and LayerNorm in one, (T, padded) */
} Block;

typedef struct {
    int latent, padded, blocks, features, widest; /* features: sum of the blocks' padded widths */
    const Block *block;
    const float *last, *last_bias;
} Network;

typedef struct {
    float *input, *entry, *product, *joined, *hidden, *second, *outputs;
} Buffers;

/* out = weight in + start + add; squares: the sum over features of out^2, for every row. */
static void multiply(const float *restrict weight, const float *restrict start,
                     const float *restrict add, const float *restrict in, int inputs,
                     float *restrict out, int outputs, float *restrict squares) {
    if (squares) memset(squares, 0, TILE * sizeof(float));
    for (int f = 0; f < outputs; f += GROUP, weight += inputs * GROUP)
        for (int c = 0; c < TILE; c += SPAN * LANES) {
            lanes sum[GROUP][SPAN];
            for (int g = 0; g < GROUP; g++)
                for (int s = 0; s < SPAN; s++) {
                    sum[g][s] = (lanes){0} + (start ? start[f + g] : 0.0f);
                    if (add) sum[g][s] += ((const lanes *)(add + (f + g) * TILE + c))[s];
                }
            for (int k = 0; k < inputs; k++)
                for (int g = 0; g < GROUP; g++)
                    for (int s = 0; s < SPAN; s++)
                        sum[g][s] += weight[k * GROUP + g] * ((const lanes *)(in + k * TILE + c))[s];
            for (int g = 0; g < GROUP; g++)
                for (int s = 0; s < SPAN; s++) {
                    ((lanes *)(out + (f + g) * TILE + c))[s] = sum[g][s];
                    if (squares) ((lanes *)(squares + c))[s] += sum[g][s] * sum[g][s];
                }
        }
}

static inline void squares_to_scale(float *squares, int width) {
    for (int r = 0; r < TILE; r++) squares[r] = 1.0f / sqrtf(squares[r] / width + EPSILON);
}

/* x Phi(x), the error function by a rational approximation over [-4, 4] with float's accuracy. */
static inline float gelu(float x) {
    static const float over[] = {2.77068142495902e-08f,  -2.10102402082508e-06f, -5.69250639462346e-05f,
                                 -7.34990630326855e-04f, -2.95459980854025e-03f, -1.60960333262415e-02f};
    static const float under[] = {-2.13374055278905e-04f, -1.68282697438203e-03f,
                                  -7.37332916720468e-03f, -1.42647390514189e-02f};
    float z = x * 0.70710678f;
    z = z < -4.0f ? -4.0f : z;
    z = z > 4.0f ? 4.0f : z;
    float square = z * z, p = -2.72614225801306e-10f, q = -1.45660718464996e-05f;
    for (int i = 0; i < 6; i++) p = p * square + over[i];
    for (int i = 0; i < 4; i++) q = q * square + under[i];
    return 0.5f * x + 0.5f * x * (z * p / q);
}

/* What a block starts from: its input resized, and joined with an earlier block's output. */
static const float *join(const Block *block, const float *before, const float *skip, float *joined) {
    if (block->inputs) {
        multiply(block->resize, block->resize_bias, skip, before, block->inputs, joined,
                 block->padded, NULL);
        return joined;
    }
    if (!skip) return before;
    for (int i = 0; i < block->padded * TILE; i++) joined[i] = before[i] + skip[i];
    return joined;
}

/* The block after its first layer's product, which `hidden` holds along with its `squares`. */
static void finish(const Block *block, int step, const float *restrict joined,
                   float *restrict hidden, float *restrict squares, float *restrict second,
                   float *restrict out) {
    const float *gain = block->gain + (long)step * block->padded;
    const float *bias = block->bias + (long)step * block->padded;
    squares_to_scale(squares, block->width);
    for (int f = 0; f < block->width; f++)
        for (int r = 0; r < TILE; r++)
            hidden[f * TILE + r] = gelu(hidden[f * TILE + r] * squares[r] * gain[f] + bias[f]);
    multiply(block->second, block->second_bias, NULL, hidden, block->width, second, block->padded,
             squares);
    squares_to_scale(squares, block->width);
    for (int f = 0; f < block->padded; f++)
        for (int r = 0; r < TILE; r++)
            out[f * TILE + r] = joined[f * TILE + r] + block->norm_bias[f] +
                                second[f * TILE + r] * squares[r] * block->norm_gain[f];
}

/* LayerNorm and the last layer: out (latent padded, TILE), without the last bias. */
static void predict(const Network *net, float *restrict x, float *restrict out) {
    const Block *final = net->block + net->blocks - 1;
    float mean[TILE] = {0}, squares[TILE] = {0};
    for (int f = 0; f < final->width; f++)
        for (int r = 0; r < TILE; r++) mean[r] += x[f * TILE + r];
    for (int r = 0; r < TILE; r++) mean[r] /= final->width;
    for (int f = 0; f < final->width; f++)
        for (int r = 0; r < TILE; r++) {
            x[f * TILE + r] -= mean[r];
            squares[r] += x[f * TILE + r] * x[f * TILE + r];
        }
    squares_to_scale(squares, final->width);
    multiply(net->last, NULL, NULL, x, final->width, out, net->padded, NULL);
    for (int k = 0; k < net->latent; k++)
        for (int r = 0; r < TILE; r++) out[k * TILE + r] *= squares[r];
}

/* All blocks under one condition; what does not depend on it is in `entry` and `product`. */
static void run(const Network *net, int step, const float *condition, const Buffers *at,
                float *out) {
    float squares[TILE] __attribute__((aligned(64))) = {0};
    const float *before = at->input;
    float *outputs = at->outputs;
    long offset[net->blocks], place = 0;
    for (int i = 0; i < net->blocks; i++) {
        const Block *block = net->block + i;
        const float *joined = at->entry;
        if (i == 0) {
            for (int f = 0; f < block->padded; f++)
                for (int r = 0; r < TILE; r++) {
                    float value = at->product[f * TILE + r] + condition[f * TILE + r];
                    at->hidden[f * TILE + r] = value;
                    squares[r] += value * value;
                }
        } else {
            const float *skip = block->skip < 0 ? NULL : outputs + offset[block->skip];
            joined = join(block, before, skip, at->joined);
            multiply(block->first, NULL, condition, block->folded ? before : joined,
                     block->folded ? block->inputs : block->width, at->hidden, block->padded,
                     squares);
        }
        offset[i] = place;
        finish(block, step, joined, at->hidden, squares, at->second, outputs + place);
        before = outputs + place;
        place += (long)block->padded * TILE;
        condition += block->padded * TILE;
    }
    predict(net, outputs + offset[net->blocks - 1], out);
}

static void denoise_tile(const Network *net, int step, const float *z, int rows,
                         const float *condition, const float *null, float guidance,
                         const Buffers *at, float *out) {
    const Block *first = net->block;
    for (int k = 0; k < net->latent; k++)
        for (int r = 0; r < TILE; r++) at->input[k * TILE + r] = r < rows ? z[r * net->latent + k] : 0.0f;
    join(first, at->input, NULL, at->entry);
    multiply(first->first, NULL, NULL, first->folded ? at->input : at->entry,
             first->folded ? first->inputs : first->width, at->product, first->padded, NULL);
    run(net, step, condition, at, at->joined);
    for (int r = 0; r < rows; r++)
        for (int k = 0; k < net->latent; k++)
            out[r * net->latent + k] = at->joined[k * TILE + r] + net->last_bias[k];
    if (!null) return;
    run(net, step, null, at, at->joined);
    for (int r = 0; r < rows; r++)
        for (int k = 0; k < net->latent; k++) {
            float other = at->joined[k * TILE + r] + net->last_bias[k];
            out[r * net->latent + k] = other + guidance * (out[r * net->latent + k] - other);
        }
}

/* z0_hat of `rows` latents z (rows, latent) at t = step + 1.

   condition: (tiles, features, TILE), `stride` floats from tile to tile, 0: one tile for all rows.
   null: NULL, or the null condition in tiles, with a stride of its own as it may keep the state or
   the goal; then out = null + guidance (conditional - null).
   Returns 0, or 1 where there is no memory. */
int ldcq_denoise(const Network *net, int step, const float *z, long rows, const float *condition,
                 long stride, const float *null, long null_stride, float guidance, float *out) {
    size_t wide = (size_t)net->widest * TILE;
    float *memory = aligned_alloc(64, (6 * wide + (size_t)net->features * TILE) * sizeof(float));
    if (!memory) return 1;
    Buffers at = {memory,            memory + wide,     memory + 2 * wide, memory + 3 * wide,
                  memory + 4 * wide, memory + 5 * wide, memory + 6 * wide};
    for (long tile = 0, row = 0; row < rows; tile++, row += TILE)
        denoise_tile(net, step, z + row * net->latent, rows - row < TILE ? (int)(rows - row) : TILE,
                     condition + tile * stride, null ? null + tile * null_stride : NULL, guidance,
                     &at, out + row * net->latent);
    free(memory);
    return 0;
}
